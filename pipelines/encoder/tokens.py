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
    """The tokens of n texts, one after the other, special tokens included; or of some of them.

    Shapes: ids (total,) int32; offsets (n + 1,) int64, text i being ids[offsets[i]:offsets[i + 1]];
    types (total,) uint8, the segment of each token, or None where the tokenizer has no segments;
    rows (texts,) int64, which of the n these are, or None: all of them.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    types: NDArray[np.uint8] | None
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1 if self.rows is None else len(self.rows)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each text begins in the arrays, shape (texts,)."""
        return self.offsets[:-1] if self.rows is None else self.offsets[self.rows]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per text, shape (texts,)."""
        lengths = np.diff(self.offsets)
        return lengths if self.rows is None else lengths[self.rows]

    @property
    def whole(self) -> "Tokens":
        """All texts that the arrays have."""
        return self if self.rows is None else Tokens(self.ids, self.offsets, self.types)

    def take(self, rows: NDArray[np.int64]) -> "Tokens":
        """Some of these texts, in the same arrays."""
        rows = rows if self.rows is None else self.rows[rows]
        return Tokens(self.ids, self.offsets, self.types, rows)

    def followed_by(self, other: "Tokens") -> "Tokens":
        """These texts, then others; in arrays of their own."""
        types = None
        if self.types is not None and other.types is not None:
            types = np.concatenate([own.types[own._places] for own in (self, other) if own.types is not None])
        lengths = np.concatenate([self.lengths, other.lengths])
        return Tokens(
            ids=np.concatenate([self.ids[self._places], other.ids[other._places]]),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            types=types,
        )

    @property
    def _places(self) -> NDArray[np.int64]:
        """Where the tokens of these texts are in the arrays, one after the other."""
        lengths = self.lengths
        shifts = np.repeat(self.starts - (np.cumsum(lengths) - lengths), lengths)
        return np.asarray(shifts + np.arange(len(shifts)))


@dataclass(frozen=True)
class Texts:
    """Texts or pairs in several readings. A pair's columns are encoded each by itself.

    Attributes:
        tokens: the encoder's tokens of each column, special ones included.
        words: by the vectors' name too, the rows of their table; words that it has not are left out.
    """

    tokens: Mapping[Reading, tuple[Tokens, ...]]
    words: Mapping[tuple[str, Reading], tuple[Tokens, ...]] = field(default_factory=dict)

    def take(self, rows: NDArray[np.int64]) -> "Texts":
        """Some of these texts, in the same arrays."""
        return Texts(
            {name: tuple(tokens.take(rows) for tokens in own) for name, own in self.tokens.items()},
            {name: tuple(tokens.take(rows) for tokens in own) for name, own in self.words.items()},
        )

    def followed_by(self, other: "Texts") -> "Texts":
        """These texts, then others that were read in the same ways."""
        return Texts(
            {name: _followed_by(own, other.tokens[name]) for name, own in self.tokens.items()},
            {name: _followed_by(own, other.words[name]) for name, own in self.words.items()},
        )

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
        fitted: which rows of the training set `train` has, where it has not all of them.
    """

    train: Texts
    validation: Texts
    framing: tuple[int, ...]
    fitted: NDArray[np.int64] | None = None

    def beside(self, other: "TaskTexts | None") -> "TaskTexts":
        """These, and what another method of a job reads."""
        if other is None:
            return self
        train, validation = self.train.beside(other.train), self.validation.beside(other.validation)
        return TaskTexts(train, validation, self.framing, self.fitted)


def _followed_by(first: tuple[Tokens, ...], then: tuple[Tokens, ...]) -> tuple[Tokens, ...]:
    return tuple(one.followed_by(other) for one, other in zip(first, then, strict=True))


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
