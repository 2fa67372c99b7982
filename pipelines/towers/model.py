"""The model of the method `embeddings`: what its towers read of texts, and what they say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.encoder.backbone import Backbone, token_table
from pipelines.encoder.batches import evaluation_batches
from pipelines.encoder.prefix import PrefixCache, sentences
from pipelines.encoder.tokens import Texts, Tokens
from pipelines.errors import InputError, nearest
from pipelines.towers.bags import Bags, bags_of, distinct, pool
from pipelines.towers.config import SENTENCE, TOKEN_TABLE, EmbeddingConfig
from pipelines.towers.layers import (
    TABLE,
    WIDE,
    Masks,
    convolve,
    count_trained_towers,
    feed_forward,
    join,
)
from pipelines.towers.vectors import WordVectors

WIDE_IDS, TABLE_IDS = "wide.ids", "embedding.ids"  # which rows of the whole tables a state has
EVALUATION_BATCH = 256  # texts
AVERAGES_BYTES = 1 << 28  # averages of a set are computed once up to here, else batch by batch

Vectors = Mapping[str, WordVectors]


@dataclass(frozen=True)
class Inputs:
    """What the towers read of a set of texts.

    Attributes:
        wide: the tokens that each text has, as places in the wide tower's rows.
        columns: of each column the places in the embedding's table; none for sentence vectors.
        vectors: of each text, where nothing of it trains: (n, columns, d).
    """

    wide: Bags
    columns: tuple[Bags, ...]
    vectors: Tensor | None = None

    def __len__(self) -> int:
        return len(self.wide)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Of the longer column, where convolutions read them; else alike, as no padding is to be saved."""
        if self.vectors is not None or not self.columns:
            return np.ones(len(self), dtype=np.int64)
        longest: NDArray[np.int64] = np.max([bags.lengths for bags in self.columns], axis=0)
        return longest


class Source:
    """Where a configuration's embeddings come from.

    Args:
        framing: tokens that are no words of a text.
        precision: of the encoder, for sentence vectors; resolved.

    Raises:
        InputError: there are no word vectors of the configuration's name.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: EmbeddingConfig,
        *,
        framing: Sequence[int],
        pooling: str,
        precision: str,
        vectors: Vectors,
        cache: PrefixCache | None = None,
    ) -> None:
        self._backbone = backbone
        self._config = config
        self._framing = tuple(framing)
        self._pooling = backbone.pooling(pooling)
        self._precision = precision
        self._cache = cache
        self.vocabulary = vocabulary_of(backbone)
        _, self.width = table_shape(backbone, config, vectors)
        self._table = _read_table(backbone, config, vectors)
        # So that a rate means the same whatever the vectors' unit is.
        size = float(np.linalg.norm(self._table)) / max(1, self._table.size) ** 0.5
        self._scale = 1 / size if size else 1.0

    def wide(self, texts: Texts) -> Bags:
        """The distinct tokens of each text, as numbers in the wide tower's whole vocabulary."""
        tokens = texts.tokens[self._config.reading]
        return distinct([bags_of(column, self._framing) for column in tokens], self.vocabulary)

    def columns(self, texts: Texts) -> tuple[Bags, ...]:
        """Each column's rows in the whole table; none for sentence vectors."""
        config = self._config
        if config.embedding == SENTENCE:
            return ()
        if config.embedding == TOKEN_TABLE:
            return tuple(bags_of(column, self._framing) for column in texts.tokens[config.reading])
        return tuple(bags_of(column) for column in texts.words[config.embedding, config.reading])

    def rows(self, ids: NDArray[np.int64]) -> Tensor:
        """Rows of the table, as they are before any training: (ids, d)."""
        return torch.from_numpy(self._table[ids] * np.float32(self._scale))

    def sentences(self, texts: Texts) -> Tensor:
        """The frozen sentence vectors of each text, (n, columns, d)."""
        columns = [self._sentences(tokens) for tokens in texts.tokens[self._config.reading]]
        return torch.from_numpy(np.stack(columns, axis=1))

    def _sentences(self, tokens: Tokens) -> NDArray[np.float32]:
        return sentences(self._backbone, tokens, self._pooling, self._precision, self._cache)

    def inputs(self, texts: Texts, wide_ids: NDArray[np.int64], table_ids: NDArray[np.int64]) -> Inputs:
        """What towers read that have these rows of the whole tables, both sorted."""
        wide = self.wide(texts).within(wide_ids)
        if self._config.embedding == SENTENCE:
            return Inputs(wide, (), self.sentences(texts))
        return Inputs(wide, tuple(bags.within(table_ids) for bags in self.columns(texts)))


def vocabulary_of(backbone: Backbone) -> int:
    """The tokens that the encoder has embeddings for."""
    return len(token_table(backbone.model))


def table_shape(backbone: Backbone, config: EmbeddingConfig, vectors: Vectors) -> tuple[int, int]:
    """Rows and width of a configuration's embedding; sentence vectors have no rows.

    Raises:
        InputError: there are no word vectors of that name.
    """
    if config.embedding == SENTENCE:
        return 0, backbone.width
    if config.embedding == TOKEN_TABLE:
        rows, width = token_table(backbone.model).shape
        return rows, width
    if config.embedding not in vectors:
        known = (TOKEN_TABLE, SENTENCE, *vectors)
        raise InputError("embedding", config.embedding, "no such embedding", nearest(config.embedding, known))
    rows, width = vectors[config.embedding].table.shape
    return rows, width


def _read_table(backbone: Backbone, config: EmbeddingConfig, vectors: Vectors) -> NDArray[np.float32]:
    """The whole table; of sentence vectors an empty one."""
    if config.embedding == SENTENCE:
        return np.empty((0, backbone.width), dtype=np.float32)
    if config.embedding != TOKEN_TABLE:
        return vectors[config.embedding].table
    # Rounded as workers hold an encoder that computes in bf16: the same everywhere, whatever holds it here.
    table: NDArray[np.float32] = token_table(backbone.model).cpu().to(torch.bfloat16).float().numpy()
    return table


def count_trained_embeddings(
    backbone: Backbone, config: EmbeddingConfig, *, outputs: int, columns: int, vectors: Vectors
) -> int:
    """How many parameters train."""
    rows, width = table_shape(backbone, config, vectors)
    return count_trained_towers(
        config,
        width=width,
        columns=columns,
        outputs=outputs,
        vocabulary=vocabulary_of(backbone),
        rows=rows,
    )


def distinct_rows(*sets: Sequence[Bags]) -> NDArray[np.int64]:
    """All rows of some bags, sorted."""
    rows = [bags.rows for own in sets for bags in own]
    return np.unique(np.concatenate(rows)) if rows else np.empty(0, dtype=np.int64)


def with_averages(inputs: Inputs, config: EmbeddingConfig, table: Tensor) -> Inputs:
    """With each text's average computed once, where neither a convolution nor a training table needs more."""
    size = 4 * len(inputs) * len(inputs.columns) * table.shape[1]
    if not inputs.columns or config.convolution or config.fine_tune_embedding or size > AVERAGES_BYTES:
        return inputs
    averages = [pool(bags, table, "mean") for bags in inputs.columns]
    return Inputs(inputs.wide, inputs.columns, torch.stack(averages, dim=1))


def deep_outputs(
    config: EmbeddingConfig,
    tensors: Mapping[str, Tensor],
    inputs: Inputs,
    texts: NDArray[np.int64],
    table: Tensor,
    masks: Masks | None = None,
) -> Tensor:
    """The deep tower's outputs for some texts: (texts, outputs).

    Args:
        table: the embedding's rows that `inputs.columns` point into.
    """
    if inputs.vectors is not None:
        x = inputs.vectors[torch.from_numpy(texts)]
    elif config.convolution:
        columns = [
            convolve(config, tensors, *_sequences(bags, texts, table), masks) for bags in inputs.columns
        ]
        x = torch.stack(columns, dim=1)
    else:
        x = torch.stack([pool(bags.take(texts), table, "mean") for bags in inputs.columns], dim=1)
    return feed_forward(config, tensors, join(x), masks)


def _sequences(bags: Bags, texts: NDArray[np.int64], table: Tensor) -> tuple[Tensor, Tensor]:
    rows, lengths = bags.padded(texts)
    there = torch.from_numpy(np.arange(rows.shape[1]) < lengths[:, None])
    if not len(table):  # no text has any word that is known
        return table.new_zeros(*rows.shape, table.shape[1]), torch.from_numpy(lengths)
    x = torch.nn.functional.embedding(torch.from_numpy(rows), table)
    return x * there[..., None], torch.from_numpy(lengths)


@torch.inference_mode()
def predict_towers(
    config: EmbeddingConfig, tensors: Mapping[str, Tensor], inputs: Inputs, table: Tensor
) -> NDArray[np.float64]:
    """Both towers' outputs for every text, in order: (n, outputs).

    Args:
        tensors: the towers' state; the rows of `WIDE` are those that `inputs.wide` points into.
    """
    outputs = np.empty((len(inputs), tensors[WIDE].shape[1]), dtype=np.float64)
    for texts in evaluation_batches(inputs.lengths, EVALUATION_BATCH):
        found = deep_outputs(config, tensors, inputs, texts, table)
        found = found + pool(inputs.wide.take(texts), tensors[WIDE], "sum")
        outputs[texts] = found.numpy()
    return outputs


def trained_outputs(
    source: Source, config: EmbeddingConfig, tensors: Mapping[str, Tensor], texts: Texts
) -> NDArray[np.float64]:
    """What trained towers say of any texts, seen or unseen: (n, outputs)."""
    ids = distinct_rows(source.columns(texts))
    table = source.rows(ids)
    if TABLE in tensors:
        tuned = tensors[TABLE_IDS].numpy()
        places = np.flatnonzero(np.isin(ids, tuned))
        table[places] = tensors[TABLE][torch.from_numpy(np.searchsorted(tuned, ids[places]))]
    inputs = source.inputs(texts, tensors[WIDE_IDS].numpy(), ids)
    return predict_towers(config, tensors, with_averages(inputs, config, table), table)
