"""What a probe reads of texts: the frozen encoder's vector of a text; of a pair, how two vectors compare."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipelines.encoder.backbone import Backbone
from pipelines.encoder.prefix import PrefixCache, sentences
from pipelines.encoder.tokens import Reading, Texts, encode_columns

MOST_ROWS = 25_000  # of the training set are read and fitted: more move a linear model little
AS_WRITTEN: Reading = (False, False)
WEIGHT, BIAS, STRENGTH = "head.weight", "head.bias", "strength"


def read_columns(rows: Sequence[tuple[str, ...]], tokenizer: Any, max_tokens: int) -> Texts:
    """Texts or pairs as they are written; of a pair each text by itself, as its vector is its own."""
    return Texts({AS_WRITTEN: encode_columns(zip(*rows, strict=True), tokenizer, max_tokens)})


def fitted_rows(rows: int) -> NDArray[np.int64]:
    """Which rows of a training set are fitted: all, or a sample of them; a function of their number."""
    if rows <= MOST_ROWS:
        return np.arange(rows)
    return np.sort(np.random.default_rng(0).choice(rows, MOST_ROWS, replace=False))


def width(backbone: Backbone, columns: int) -> int:
    """How many features a text, or a pair, has."""
    return backbone.width * (1 if columns == 1 else 4)


def count_head(backbone: Backbone, *, outputs: int, columns: int) -> int:
    """How many parameters the head has."""
    return (width(backbone, columns) + 1) * outputs


def features(
    backbone: Backbone,
    texts: Texts,
    *,
    pooling: str,
    precision: str,
    cache: PrefixCache | None = None,
) -> NDArray[np.float64]:
    """Of each text its vector; of a pair (u, v, |u - v|, u * v), as Conneau et al. 2017 (InferSent), §3.1.

    Args:
        texts: as `read_columns` makes them.
        precision: resolved.
        cache: where vectors are kept.

    Returns:
        (texts, features).
    """
    vectors = [
        sentences(backbone, tokens, pooling, precision, cache).astype(np.float64)
        for tokens in texts.tokens[AS_WRITTEN]
    ]
    if len(vectors) == 1:
        return vectors[0]
    first, second = vectors
    return np.concatenate([first, second, np.abs(first - second), first * second], axis=1)


def outputs(parameters: Mapping[str, Tensor], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """The head's outputs for features, (texts, outputs)."""
    weight, bias = parameters[WEIGHT].double().numpy(), parameters[BIAS].double().numpy()
    result: NDArray[np.float64] = found @ weight.T + bias
    return result
