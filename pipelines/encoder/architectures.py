"""Where each encoder architecture takes its adapters and where its layer norms are.

Adding an architecture is one entry in `ARCHITECTURES`: read the forward pass of one layer in
transformers, name the last module before each of its two residual additions, and name every layer norm.
tests/unit/encoder/test_architectures.py then checks the entry against a tiny random model.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

BELOW = -1  # the "layer" of what lies below the first one: the embeddings


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Module paths within one encoder; `*` stands for an index.

    Attributes:
        layers: the Transformer layers. ALBERT runs one layer module at every depth: it counts once.
        attention: within a layer, the last module before the attention's residual is added.
        feed_forward: within a layer, the last module before the feed-forward's residual is added.
        layer_norms: within a layer, its norms.
        lower_norms: the embeddings' norms and others that the first layer needs; those that a configuration
            lacks are passed over.
        final_norms: the norms after the last layer.
        branch_ends: within a layer, the two modules of (branch, residual) that add and norm, attention's
            first; None where there are none. Parallel adapters need them, and a last layer that is to compute
            the first token alone.
        tuples: whether a layer returns its hidden states as the first of a tuple.
        shared_layers: whether one layer module runs at several depths.
        relative: within a layer, DeBERTa's attention: it reads one table of relative positions for all texts,
            of which each trial of a pack needs its own, since the norm of the table is trained.
        distances: within a layer, MPNet's attention, to which the encoder hands a term for each two places of
            a line.
        flat: whether several texts can stand in one line: attention comes through transformers' interface or
            is one of `distances`, positions can be told, and the pooler is one module.
    """

    layers: str
    attention: str
    feed_forward: str
    layer_norms: tuple[str, ...]
    lower_norms: tuple[str, ...] = ("embeddings.LayerNorm",)
    final_norms: tuple[str, ...] = ()
    branch_ends: tuple[str, str] | None = None
    tuples: bool = False
    shared_layers: bool = False
    relative: str | None = None
    distances: str | None = None
    flat: bool = True


_BERT = Architecture(
    layers="encoder.layer.*",
    attention="attention.output.dropout",
    feed_forward="output.dropout",
    layer_norms=("attention.output.LayerNorm", "output.LayerNorm"),
    branch_ends=("attention.output", "output"),
)

# By transformers' `model_type`.
ARCHITECTURES: dict[str, Architecture] = {
    "albert": Architecture(
        layers="encoder.albert_layer_groups.*.albert_layers.*",
        attention="attention.output_dropout",
        feed_forward="ffn_output",
        layer_norms=("attention.LayerNorm", "full_layer_layer_norm"),
        shared_layers=True,
        flat=False,
    ),
    "bert": _BERT,
    "deberta-v2": replace(
        _BERT,
        lower_norms=("embeddings.LayerNorm", "encoder.LayerNorm", "encoder.conv.LayerNorm"),
        tuples=True,
        relative="attention.self",
        flat=False,  # attention's own terms of relative positions
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
        lower_norms=("embeddings.norm",),
        final_norms=("final_norm",),
    ),
    "mpnet": Architecture(
        layers="encoder.layer.*",
        attention="attention.dropout",
        feed_forward="output.dropout",
        layer_norms=("attention.LayerNorm", "output.LayerNorm"),
        tuples=True,
        distances="attention.attn",
    ),
    "roberta": _BERT,
    "xlm-roberta": _BERT,
}


@dataclass(frozen=True)
class Site:
    """Where an adapter may be: `path` names the module that the adapter follows."""

    layer: int
    branch: str  # "attention" or "feed_forward"
    path: str


def adapter_sites(architecture: Architecture, model: nn.Module) -> tuple[Site, ...]:
    """All sites of a model, from the lowest layer up, attention first.

    Raises:
        LookupError: the model has no such modules, so the table's entry is wrong for it.
    """
    branches = (("attention", architecture.attention), ("feed_forward", architecture.feed_forward))
    return tuple(
        Site(index, branch, f"{layer}.{path}")
        for index, layer in enumerate(layer_paths(architecture, model))
        for branch, path in branches
    )


def norm_paths(architecture: Architecture, model: nn.Module) -> dict[str, int]:
    """The layer of each layer norm that has parameters, by path, in the order of the table.

    `BELOW` is the layer of what lies below the first one; that of the final norms is the count of layers.
    """
    modules = dict(model.named_modules())
    layers = layer_paths(architecture, model)
    paths = dict.fromkeys(architecture.lower_norms, BELOW)
    for index, layer in enumerate(layers):
        paths |= dict.fromkeys((f"{layer}.{norm}" for norm in architecture.layer_norms), index)
    paths |= dict.fromkeys(architecture.final_norms, len(layers))
    return {
        path: index
        for path, index in paths.items()
        if path in modules and any(True for _ in modules[path].parameters())
    }


def layer_of(path: str, layers: Sequence[str]) -> int:
    """The layer that a module lies in, as `norm_paths` counts; the pooler lies above all."""
    for index, layer in enumerate(layers):
        if path == layer or path.startswith(f"{layer}."):
            return index
    return len(layers) if path.split(".")[0] in ("pooler", "final_norm") else BELOW


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
