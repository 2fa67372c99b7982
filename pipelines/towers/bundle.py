"""Towers out of a bundle: texts in, outputs out, without the file that the word vectors came from."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipelines.encoder.backbone import Backbone
from pipelines.encoder.precision import resolve_precision
from pipelines.encoder.tokens import framing_tokens
from pipelines.towers.config import SENTENCE, TOKEN_TABLE, EmbeddingConfig
from pipelines.towers.layers import TABLE, WIDE, Shape, tower_shapes
from pipelines.towers.model import TABLE_IDS, WIDE_IDS, Source, table_shape, trained_outputs
from pipelines.towers.texts import read_texts
from pipelines.towers.vectors import TABLE as VECTORS
from pipelines.towers.vectors import WORDS, WordVectors, vectors_in


class TrainedTowers:
    """The towers of a bundle, with all that they read.

    Args:
        tensors: a bundle's, which `different_tensors` has nothing to say of.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: EmbeddingConfig,
        tensors: Mapping[str, Tensor],
        *,
        pooling: str,
        max_tokens: int,
    ) -> None:
        self._backbone = backbone
        self._config = config
        self._tensors = tensors
        self._pooling = pooling
        self._max_tokens = max_tokens
        self._vectors = _vectors(config, tensors)

    def read(self, rows: Sequence[tuple[str, ...]], *, precision: str) -> tuple[NDArray[np.float64], None]:
        """The towers' outputs, shape (n, outputs); no kind needs more of them for answers."""
        config, tokenizer = self._config, self._backbone.tokenizer
        device = next(self._backbone.model.parameters()).device
        source = Source(
            self._backbone,
            config,
            framing=framing_tokens(tokenizer),
            pooling=self._pooling,
            precision=resolve_precision(precision, device),
            vectors=self._vectors,
        )
        texts = read_texts(
            rows, tokenizer, self._max_tokens, readings=[config.reading], vectors=self._vectors
        )
        return trained_outputs(source, config, self._tensors, texts), None


def different_tensors(
    backbone: Backbone, config: EmbeddingConfig, tensors: Mapping[str, Tensor], *, columns: int, outputs: int
) -> list[str]:
    """The names of tensors that are missing, of another shape than the configuration needs, or too many."""
    found: dict[str, Shape] = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        vectors = _vectors(config, tensors)
    except (KeyError, ValueError):
        return [VECTORS]
    _, width = table_shape(backbone, config, vectors)
    expected = {name: found[name] for name in (VECTORS, WORDS) if vectors}
    expected |= tower_shapes(config, width=width, columns=columns, outputs=outputs)
    for table, ids, size in ((WIDE, WIDE_IDS, outputs), (TABLE, TABLE_IDS, width)):
        if table == WIDE or config.fine_tune_embedding:
            rows = found.get(ids, (0,))[:1]
            expected |= {ids: rows, table: (*rows, size)}
    return sorted(dict(expected.items() ^ found.items()))


def _vectors(config: EmbeddingConfig, tensors: Mapping[str, Tensor]) -> dict[str, WordVectors]:
    if config.embedding in (TOKEN_TABLE, SENTENCE):
        return {}
    return {config.embedding: vectors_in(config.embedding, tensors)}
