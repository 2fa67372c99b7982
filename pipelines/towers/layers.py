"""The towers of the paper's "no BERT" models (Houlsby et al. 2019, Table 5): what they have and compute.

The deep tower is feed-forward over a text's average embedding or over convolutions of its embeddings (Kim
2014); the wide one is linear over the tokens that a text has (Cheng et al. 2016). Their outputs are added.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.encoder.batches import step_key
from pipelines.towers.config import EmbeddingConfig

Shape = tuple[int, ...]

WIDE, TABLE, HEAD = "wide.weight", "embedding.weight", "head"
_STATISTICS = (".mean", ".variance")  # of batch norms
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "relu6": functional.relu6,
    "leaky_relu": functional.leaky_relu,
    "swish": functional.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def is_trained(name: str) -> bool:
    """Whether a tensor of the towers' state is a trained parameter; others are statistics and row numbers."""
    return not name.endswith((*_STATISTICS, ".ids"))


def is_penalised(name: str) -> bool:
    """Whether regularisation applies: to weight matrices, not to biases and norms, nor to embeddings, which
    it would pull to zero instead of to where they started."""
    return name.endswith(".weight") and ".norm." not in name and name != TABLE


def joined_width(width: int, columns: int) -> int:
    """Of a text's features, or of a pair's: see `join`."""
    return width if columns == 1 else 4 * width


def tower_shapes(config: EmbeddingConfig, *, width: int, columns: int, outputs: int) -> dict[str, Shape]:
    """The deep tower's tensors by name, its table aside; in the order in which they are made.

    Args:
        width: of an embedding.
        columns: 1, or 2 for pairs.
    """
    shapes: dict[str, Shape] = {}
    if config.convolution:
        filters = config.convolution_filters
        for size in range(1, config.convolution_ngram + 1):
            shapes[f"convolution.{size}.weight"] = (filters, width, size)
            shapes[f"convolution.{size}.bias"] = (filters,)
        width = filters * config.convolution_ngram
        if config.convolution_batch_norm:
            shapes |= _norm_shapes("convolution.norm", width, batch=True)
    width = joined_width(width, columns)
    for layer in range(config.hidden_layers):
        shapes[f"hidden.{layer}.weight"] = (config.hidden_size, width)
        shapes[f"hidden.{layer}.bias"] = (config.hidden_size,)
        width = config.hidden_size
        if config.hidden_norm != "none":
            shapes |= _norm_shapes(f"hidden.{layer}.norm", width, batch=config.hidden_norm == "batch")
    return shapes | {f"{HEAD}.weight": (outputs, width), f"{HEAD}.bias": (outputs,)}


def _norm_shapes(name: str, width: int, *, batch: bool) -> dict[str, Shape]:
    kinds = ("weight", "bias", "mean", "variance") if batch else ("weight", "bias")
    return {f"{name}.{kind}": (width,) for kind in kinds}


def count_trained_towers(
    config: EmbeddingConfig, *, width: int, columns: int, outputs: int, vocabulary: int, rows: int
) -> int:
    """How many parameters train, the whole of each table among them.

    Args:
        vocabulary: of the wide tower, for each column.
        rows: of the embedding's table.
    """
    shapes = tower_shapes(config, width=width, columns=columns, outputs=outputs)
    deep = sum(torch.Size(shape).numel() for name, shape in shapes.items() if is_trained(name))
    return deep + columns * vocabulary * outputs + (rows * width if config.fine_tune_embedding else 0)


def initial_towers(config: EmbeddingConfig, shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    """The deep tower as it starts: weights even within 1/sqrt(inputs), biases 0, norms the identity."""
    generator = torch.Generator().manual_seed(config.seed)
    made: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if name.endswith((".bias", ".mean")):
            made[name] = torch.zeros(shape)
        elif name.endswith(".variance") or ".norm." in name:
            made[name] = torch.ones(shape)
        else:
            bound = torch.Size(shape[1:]).numel() ** -0.5
            made[name] = torch.empty(shape).uniform_(-bound, bound, generator=generator)
    return made


class Masks:
    """Dropout of one step: a function of (seed, step) and of the order of the calls."""

    def __init__(self, seed: int, step: int) -> None:
        self._generator = torch.Generator().manual_seed(step_key(seed, step))

    def drop(self, x: Tensor, rate: float) -> Tensor:
        """Zero elements at a rate, and scale up the rest."""
        if rate == 0:
            return x
        return x * (torch.rand(x.shape, generator=self._generator) >= rate) / (1 - rate)


def join(x: Tensor) -> Tensor:
    """One vector for a text or a pair: of a pair u, v, |u - v| and u * v (Conneau et al. 2017).

    Shapes: (rows, columns, width) -> (rows, joined width).
    """
    if x.shape[1] == 1:
        return x[:, 0]
    u, v = x[:, 0], x[:, 1]
    return torch.cat([u, v, (u - v).abs(), u * v], dim=1)


def convolve(
    config: EmbeddingConfig, tensors: Mapping[str, Tensor], x: Tensor, lengths: Tensor, masks: Masks | None
) -> Tensor:
    """Filters of each width from 1, their largest value over a text, norm, activation, dropout.

    A window that reaches behind a text's end sees zeros there, and counts only in texts shorter than it.

    Shapes: x (rows, longest, width), zeros behind the lengths (rows,) -> (rows, filters x widths).
    """
    if masks is not None:
        x = masks.drop(x, config.embedding_dropout)
    found = []
    for size in range(1, config.convolution_ngram + 1):
        padded = functional.pad(x.transpose(1, 2), (0, size - 1))
        values = functional.conv1d(
            padded, tensors[f"convolution.{size}.weight"], tensors[f"convolution.{size}.bias"]
        )
        windows = (lengths - size + 1).clamp(min=1)
        outside = torch.arange(x.shape[1]) >= windows[:, None]
        found.append(values.masked_fill(outside[:, None], -torch.inf).amax(2))
    pooled = torch.cat(found, dim=1)
    if config.convolution_batch_norm:
        pooled = _batch_norm(tensors, "convolution.norm", pooled, training=masks is not None)
    pooled = _ACTIVATIONS[config.convolution_activation](pooled)
    return pooled if masks is None else masks.drop(pooled, config.convolution_dropout)


def feed_forward(
    config: EmbeddingConfig, tensors: Mapping[str, Tensor], x: Tensor, masks: Masks | None
) -> Tensor:
    """The hidden layers and the head. Shapes: (rows, joined width) -> (rows, outputs)."""
    for layer in range(config.hidden_layers):
        name = f"hidden.{layer}"
        x = functional.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])
        if config.hidden_norm == "batch":
            x = _batch_norm(tensors, f"{name}.norm", x, training=masks is not None)
        elif config.hidden_norm == "layer":
            norm = tensors[f"{name}.norm.weight"], tensors[f"{name}.norm.bias"]
            x = functional.layer_norm(x, x.shape[1:], *norm)
        x = _ACTIVATIONS[config.hidden_activation](x)
        x = x if masks is None else masks.drop(x, config.hidden_dropout)
    return functional.linear(x, tensors[f"{HEAD}.weight"], tensors[f"{HEAD}.bias"])


def _batch_norm(tensors: Mapping[str, Tensor], name: str, x: Tensor, *, training: bool) -> Tensor:
    mean, variance, weight, bias = (
        tensors[f"{name}.{kind}"] for kind in ("mean", "variance", "weight", "bias")
    )
    return functional.batch_norm(x, mean, variance, weight, bias, training=training)
