"""Tokenised texts: flat arrays that any process can map without a copy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import InputError

Reading = tuple[bool, bool]  # of a text: lower-cased, stripped of all but letters and digits


@dataclass(frozen=True)
class Tokens:
    """The tokens of n texts, one after the other, special tokens included.

    Shapes: ids (total,) int32; offsets (n + 1,) int64, text i being ids[offsets[i]:offsets[i + 1]];
    types (total,) uint8, the segment of each token, or None where the tokenizer has no segments.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    types: NDArray[np.uint8] | None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per text, shape (n,)."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Texts:
    """Texts or pairs in several readings. A pair's columns are encoded each by itself.

    Attributes:
        tokens: the encoder's tokens of each column, special ones included.
        words: by the vectors' name too, the rows of their table; words that it has not are left out.
    """

    tokens: Mapping[Reading, tuple[Tokens, ...]]
    words: Mapping[tuple[str, Reading], tuple[Tokens, ...]] = field(default_factory=dict)

    def beside(self, other: "Texts | None") -> "Texts":
        """These, and what another method of a job reads of the same texts."""
        if other is None:
            return self
        return Texts({**other.tokens, **self.tokens}, {**other.words, **self.words})


@dataclass(frozen=True)
class TaskTexts:
    """What methods see of a task that read columns by themselves, each in its reading; never the test set.

    Attributes:
        framing: the tokenizer's special tokens, which are no words of a text; the unknown one is.
    """

    train: Texts
    validation: Texts
    framing: tuple[int, ...]

    def beside(self, other: "TaskTexts | None") -> "TaskTexts":
        """These, and what another method of a job reads."""
        if other is None:
            return self
        train, validation = self.train.beside(other.train), self.validation.beside(other.validation)
        return TaskTexts(train, validation, self.framing)


def encode(texts: Sequence[tuple[str, ...]], tokenizer: Any, max_tokens: int) -> Tokens:
    """Tokenise single texts or pairs, cut to `max_tokens` (the longer text of a pair first)."""
    columns = [list(column) for column in zip(*texts, strict=True)]
    encoded = tokenizer(
        *columns, truncation="longest_first", max_length=max_tokens, return_attention_mask=False
    )
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return Tokens(
        ids=_flat(encoded["input_ids"], np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        types=_flat(encoded["token_type_ids"], np.uint8) if "token_type_ids" in encoded else None,
    )


def encode_columns(columns: Iterable[Sequence[str]], tokenizer: Any, max_tokens: int) -> tuple[Tokens, ...]:
    """Tokenise each column of texts or pairs by itself, cut to `max_tokens`."""
    return tuple(encode([(text,) for text in column], tokenizer, max_tokens) for column in columns)


def framing_tokens(tokenizer: Any) -> tuple[int, ...]:
    """The special tokens around texts: all but the unknown word's."""
    return tuple(sorted({*tokenizer.all_special_ids} - {tokenizer.unk_token_id}))


def check_max_tokens(name: str, tokenizer: Any, max_tokens: int) -> None:
    """Raise InputError if the backbone `name` cannot take `max_tokens` tokens at once."""
    limit = int(tokenizer.model_max_length)
    if max_tokens > limit:
        raise InputError(
            "max_tokens", max_tokens, f"backbone {name!r} takes at most {limit}", f"Write {limit} or less."
        )


def _flat(rows: list[list[int]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.fromiter((value for row in rows for value in row), dtype=dtype)
