"""The methods that put nothing into the encoder: its own layer norms, or its own weights, train."""

from pipelines.config import TrainConfig
from pipelines.encoder.architectures import layer_of, layer_paths
from pipelines.encoder.backbone import Backbone
from pipelines.errors import InputError
from pipelines.packs.trained import Trained, is_at_or_above, trained_norms


def layer_norms(backbone: Backbone, config: TrainConfig) -> Trained:
    """The parts of the method `layer_norm` (§3.4): all layer norms from `first_layer` up."""
    return Trained(config.first_layer, norms=trained_norms(backbone, config.first_layer))


def all_weights(backbone: Backbone, _: TrainConfig) -> Trained:
    """The parts of the method `fine_tune`: everything."""
    return _weights_from(backbone, 0)


def top_weights(backbone: Backbone, config: TrainConfig) -> Trained:
    """The parts of the method `top_layers` (§3.3, "variable fine-tuning"): all of the top n layers, final
    norms and pooler; the embeddings too where n is the full depth.

    Raises:
        InputError: the backbone has less layers.
    """
    depth = len(layer_paths(backbone.architecture, backbone.model))
    if config.top_layers > depth:
        rule = f"backbone {backbone.name!r} has {depth} distinct layers"
        raise InputError("top_layers", config.top_layers, rule, f"Write 1 to {depth}.")
    return _weights_from(backbone, depth - config.top_layers)


def _weights_from(backbone: Backbone, first: int) -> Trained:
    layers, norms = layer_paths(backbone.architecture, backbone.model), trained_norms(backbone, first)
    weights = tuple(
        name
        for name, _ in backbone.model.named_parameters()
        if name.rpartition(".")[0] not in norms and is_at_or_above(layer_of(name, layers), first)
    )
    return Trained(first, norms=norms, weights=weights)
