"""Which parameters train, by method; and what they start from."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipelines.config import TrainConfig
from pipelines.encoder.architectures import BELOW, Site, adapter_sites, layer_of, layer_paths, norm_paths
from pipelines.encoder.backbone import Backbone
from pipelines.errors import InputError
from pipelines.packs.adapter import BottleneckAdapter
from pipelines.packs.bank import SINGLE, Shape

HEAD_STD = 0.02  # of the head's initial weights, as in BERT
HEAD = "head"


@dataclass(frozen=True)
class Trained:
    """What of a backbone trains with a configuration, beside the head.

    Attributes:
        first_layer: below it nothing trains, and the network is as in evaluation; 0: everything may train.
        sites: where adapters are.
        norms: the paths of trained layer norms.
        weights: the paths of the other trained parameters of the encoder itself.
    """

    first_layer: int
    sites: tuple[Site, ...]
    norms: tuple[str, ...]
    weights: tuple[str, ...]


def trained_parts(backbone: Backbone, config: TrainConfig) -> Trained:
    """Which parts train.

    `adapter` (§2.1): a bottleneck after the attention's and after the feed-forward's projection of every
    layer, before the residual is added; all layer norms, the embeddings' included; the head. With
    `first_layer` above 0: only what lies from that layer up.
    `layer_norm` (§3.4): layer norms and head alone.
    `top_layers` (§3.3, "variable fine-tuning"): all of the top n layers, final norms and pooler; the
    embeddings too where n is the full depth. `fine_tune`: everything.

    Raises:
        InputError: the backbone does not have the layers, or cannot take such adapters.
    """
    architecture, model = backbone.architecture, backbone.model
    layers = layer_paths(architecture, model)
    _check_depth(backbone, config, len(layers))
    first = config.first_layer
    if config.method in ("fine_tune", "top_layers"):
        first = len(layers) - config.top_layers if config.method == "top_layers" else 0
    norms = {path: at for path, at in norm_paths(architecture, model).items() if _trains(at, first)}
    sites: tuple[Site, ...] = ()
    weights: tuple[str, ...] = ()
    if config.method == "adapter":
        last = len(layers) - 1 if config.last_layer is None else config.last_layer
        sites = tuple(
            site
            for site in adapter_sites(architecture, model)
            if first <= site.layer <= last and config.adapter_places in ("both", site.place)
        )
    elif config.method != "layer_norm":
        weights = tuple(
            name
            for name, _ in model.named_parameters()
            if name.rpartition(".")[0] not in norms and _trains(layer_of(name, layers), first)
        )
    return Trained(first, sites, tuple(norms), weights)


def _trains(layer: int, first: int) -> bool:
    return layer >= first or (layer == BELOW and first == 0)


def _check_depth(backbone: Backbone, config: TrainConfig, depth: int) -> None:
    what = f"backbone {backbone.name!r} has {depth} distinct layers"
    if config.first_layer >= depth:
        raise InputError("first_layer", config.first_layer, what, f"Write 0 to {depth - 1}; 0 is the lowest.")
    if config.last_layer is not None and config.last_layer >= depth:
        raise InputError("last_layer", config.last_layer, what, f"Write 0 to {depth - 1}.")
    if config.method == "top_layers" and config.top_layers > depth:
        raise InputError("top_layers", config.top_layers, what, f"Write 1 to {depth}.")
    architecture = backbone.architecture
    if architecture.shared_layers and (config.first_layer or config.last_layer is not None):
        raise InputError(
            "first_layer", config.first_layer, "its layers share their weights", "Leave first_layer out."
        )
    if config.adapter_placement == "parallel" and architecture.branch_ends is None:
        kind = getattr(backbone.model.config, "model_type", "?")
        rule = f"parallel adapters cannot be placed in the architecture {kind!r}"
        raise InputError("adapter_placement", "parallel", rule, "Write serial.")


def trained_shapes(backbone: Backbone, config: TrainConfig, *, outputs: int) -> dict[str, Shape]:
    """The trained parameters by name: `adapter.LAYER.PLACE.…`, layer norms `norm.PATH.…`, other weights of
    the encoder `weight.PATH`, the head `head.…`. Names do not depend on how the encoder is wrapped.

    Args:
        outputs: the head's width.
    """
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in _parameters(backbone, config, outputs)}


def count_trained(backbone: Backbone, config: TrainConfig, *, outputs: int) -> int:
    """How many parameters train."""
    return sum(
        torch.Size(shape).numel() for shape in trained_shapes(backbone, config, outputs=outputs).values()
    )


def initial_parameters(backbone: Backbone, config: TrainConfig, *, outputs: int) -> dict[str, Tensor]:
    """The trained parameters as they start, fp32 on the CPU: a function of backbone and configuration."""
    return {
        name: tensor.detach().float().cpu().clone() for name, tensor in _parameters(backbone, config, outputs)
    }


def _parameters(backbone: Backbone, config: TrainConfig, outputs: int) -> list[tuple[str, Tensor]]:
    on_meta = torch.get_default_device().type == "meta"
    generator = None if on_meta else torch.Generator().manual_seed(config.seed)
    parts = trained_parts(backbone, config)
    found: list[tuple[str, Tensor]] = []
    for path in parts.norms:
        norm = backbone.model.get_submodule(path)
        found += [(f"norm.{path}.{name}", tensor) for name, tensor in norm.named_parameters()]
    for site in parts.sites:
        adapter = BottleneckAdapter(
            backbone.width,
            config.adapter_size,
            init_std=config.init_std,
            activation=config.activation,
            layers=config.adapter_layers,
            norm=config.adapter_norm,
            generator=generator,
        )
        found += [
            (f"adapter.{site.layer}.{site.place}.{name}", tensor)
            for name, tensor in adapter.named_parameters()
        ]
    found += [(f"{SINGLE}{path}", backbone.model.get_parameter(path)) for path in parts.weights]
    head = nn.Linear(backbone.width, outputs)
    nn.init.normal_(head.weight, std=HEAD_STD, generator=generator)
    nn.init.zeros_(head.bias)
    return found + [(f"{HEAD}.{name}", tensor) for name, tensor in head.named_parameters()]
