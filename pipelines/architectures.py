"""Where each encoder architecture takes its adapters and where its layer norms are.

Adding an architecture is one entry in `ARCHITECTURES`: read the forward pass of one layer in
transformers, name the last module before each of its two residual additions, and name every layer norm.
tests/unit/test_architectures.py then checks the entry against a tiny random model.
"""

import re
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Module paths within one encoder; `*` stands for an index.

    Attributes:
        layers: the Transformer layers. ALBERT runs one layer module at every depth: it counts once.
        attention: within a layer, the last module before the attention's residual is added.
        feed_forward: within a layer, the last module before the feed-forward's residual is added.
        layer_norms: within a layer, its norms.
        other_norms: the embeddings' and final norms; those that a configuration lacks are passed over.
    """

    layers: str
    attention: str
    feed_forward: str
    layer_norms: tuple[str, ...]
    other_norms: tuple[str, ...] = ("embeddings.LayerNorm",)


_BERT = Architecture(
    layers="encoder.layer.*",
    attention="attention.output.dropout",
    feed_forward="output.dropout",
    layer_norms=("attention.output.LayerNorm", "output.LayerNorm"),
)

# By transformers' `model_type`.
ARCHITECTURES: dict[str, Architecture] = {
    "albert": Architecture(
        layers="encoder.albert_layer_groups.*.albert_layers.*",
        attention="attention.output_dropout",
        feed_forward="ffn_output",
        layer_norms=("attention.LayerNorm", "full_layer_layer_norm"),
    ),
    "bert": _BERT,
    "deberta-v2": Architecture(
        layers=_BERT.layers,
        attention=_BERT.attention,
        feed_forward=_BERT.feed_forward,
        layer_norms=_BERT.layer_norms,
        other_norms=("embeddings.LayerNorm", "encoder.LayerNorm", "encoder.conv.LayerNorm"),
    ),
    "distilbert": Architecture(
        layers="transformer.layer.*",
        attention="attention.out_lin",
        feed_forward="ffn.dropout",
        layer_norms=("sa_layer_norm", "output_layer_norm"),
    ),
    "electra": _BERT,
    "modernbert": Architecture(
        layers="layers.*",
        attention="attn.out_drop",
        feed_forward="mlp.Wo",
        layer_norms=("attn_norm", "mlp_norm"),  # the first layer's attn_norm is an identity
        other_norms=("embeddings.norm", "final_norm"),
    ),
    "mpnet": Architecture(
        layers="encoder.layer.*",
        attention="attention.dropout",
        feed_forward="output.dropout",
        layer_norms=("attention.LayerNorm", "output.LayerNorm"),
    ),
    "roberta": _BERT,
    "xlm-roberta": _BERT,
}


@dataclass(frozen=True)
class Site:
    """One place for an adapter: `path` names the module that the adapter follows."""

    layer: int
    place: str  # "attention" or "feed_forward"
    path: str


def adapter_sites(architecture: Architecture, model: nn.Module) -> tuple[Site, ...]:
    """All adapter places of a model, from the lowest layer up, attention first.

    Raises:
        LookupError: the model has no such modules, so the table's entry is wrong for it.
    """
    places = (("attention", architecture.attention), ("feed_forward", architecture.feed_forward))
    return tuple(
        Site(index, place, f"{layer}.{path}")
        for index, layer in enumerate(layer_paths(architecture, model))
        for place, path in places
    )


def norm_paths(architecture: Architecture, model: nn.Module) -> tuple[str, ...]:
    """The paths of all layer norms that have parameters, in the order of the table."""
    modules = dict(model.named_modules())
    paths = [path for path in architecture.other_norms if path in modules]
    for layer in layer_paths(architecture, model):
        paths += [f"{layer}.{norm}" for norm in architecture.layer_norms]
    return tuple(path for path in paths if any(True for _ in modules[path].parameters()))


def layer_paths(architecture: Architecture, model: nn.Module) -> tuple[str, ...]:
    """The paths of the distinct Transformer layers, lowest first.

    Raises:
        LookupError: no module matches the pattern.
    """
    pattern = re.compile(re.escape(architecture.layers).replace(r"\*", r"\d+"))
    paths = tuple(name for name, _ in model.named_modules() if pattern.fullmatch(name))
    if not paths:
        raise LookupError(f"{type(model).__name__} has no modules named {architecture.layers}")
    return paths
