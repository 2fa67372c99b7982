"""Texts as the towers of the method `embeddings` read them: lower-cased or not, stripped or not, as rows."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.encoder.tokens import Reading, Texts, Tokens, encode_columns
from pipelines.towers.vectors import WordVectors

Rows = Sequence[tuple[str, ...]]

_OTHERS = re.compile(r"[^\w\s]|_")
_WORDS = re.compile(r"\w+|[^\w\s]")


def read_text(text: str, reading: Reading) -> str:
    """A text lower-cased, and with a space for all that is neither a letter, a digit nor a space."""
    lowercase, strip = reading
    text = text.lower() if lowercase else text
    return _OTHERS.sub(" ", text) if strip else text


def split_words(text: str) -> list[str]:
    """Runs of letters and digits, and every other mark by itself."""
    return _WORDS.findall(text)


def read_texts(
    rows: Rows,
    tokenizer: Any,
    max_tokens: int,
    *,
    readings: Collection[Reading],
    vectors: Mapping[str, WordVectors],
) -> Texts:
    """Encode texts or pairs in each reading, cut to `max_tokens` tokens or words."""
    tokens: dict[Reading, tuple[Tokens, ...]] = {}
    words: dict[tuple[str, Reading], tuple[Tokens, ...]] = {}
    for reading in sorted(readings):
        columns = [[read_text(text, reading) for text in column] for column in zip(*rows, strict=True)]
        tokens[reading] = encode_columns(columns, tokenizer, max_tokens)
        for name, found in vectors.items():
            words[name, reading] = tuple(_look_up(column, found, max_tokens) for column in columns)
    return Texts(tokens, words)


def _look_up(texts: Sequence[str], vectors: WordVectors, max_tokens: int) -> Tokens:
    rows = [
        [vectors.rows[word] for word in split_words(text)[:max_tokens] if word in vectors.rows]
        for text in texts
    ]
    ids = np.fromiter((row for own in rows for row in own), dtype=np.int32)
    return Tokens(ids, offsets_of([len(own) for own in rows]), None)


def offsets_of(lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of some runs begins, and the last one ends: (n + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
