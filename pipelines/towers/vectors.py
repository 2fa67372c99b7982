"""Word vectors from a text file, as fastText and GloVe publish them: a word and its numbers on a line."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.errors import FileError, InputError
from pipelines.files import open_plain
from pipelines.locations import resolve_location

TABLE, WORDS = "vectors.table", "vectors.words"  # a bundle's tensors
MOST_BYTES = 16_000_000_000  # of one file; the largest that are published have 6 GB
FORM = "Write a word and its numbers on each line, separated by spaces, as fastText's .vec and GloVe's .txt."


@dataclass(frozen=True, eq=False)
class WordVectors:
    """A table of word vectors. Shapes: table (words, d), float32."""

    name: str
    words: tuple[str, ...]
    table: NDArray[np.float32]

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of each word."""
        return {word: row for row, word in enumerate(self.words)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of words and numbers; where they were read from does not matter."""
        digest = hashlib.sha256("\n".join(self.words).encode())
        digest.update(f" {self.table.shape} ".encode())
        digest.update(np.ascontiguousarray(self.table).data)
        return digest.hexdigest()


def read_vectors(name: str, path: str) -> WordVectors:
    """Read a file of word vectors; a first line "count width" is optional. Plain UTF-8 text only.

    Raises:
        InputError: with the line that is wrong; or it is a pipe, a device or a folder, or too large.
    """
    key = f"vectors.{name}"
    location = Path(resolve_location(path, key=key)).resolve()  # the user's own links may be followed
    try:
        with open_plain(location, limit=MOST_BYTES) as (file, _):
            return _parse(name, path, io.TextIOWrapper(file, encoding="utf-8", newline="\n"))
    except FileError as error:
        fix = "Name a plain text file of word vectors."
        raise InputError(key, path, f"cannot be read: {error}", fix) from error
    except UnicodeDecodeError as error:
        rule = f"it is not UTF-8 text ({error.reason} at byte {error.start} of what was read)"
        fix = "Unpack it if it is compressed; of binary vectors take the text version."
        raise InputError(key, path, rule, fix) from error
    except OSError as error:
        rule = f"cannot be read: {error.strerror or error}"
        raise InputError(key, path, rule, "Name a text file of word vectors.") from error


def _parse(name: str, path: str, lines: Iterator[str]) -> WordVectors:
    key = f"vectors.{name}"

    def refuse(line: int, rule: str, fix: str = FORM) -> InputError:
        return InputError(key, path, f"line {line}: {rule}", fix)

    words: dict[str, int] = {}  # word -> its line
    rows: list[NDArray[np.float32]] = []
    count = width = 0
    for number, raw in enumerate(lines, start=1):
        line = raw.rstrip(" \t\r\n").replace("\t", " ")
        fields = line.split(" ")  # not at Unicode's other spaces: they are words in some files
        if number == 1 and len(fields) == 2 and all(field.isascii() and field.isdigit() for field in fields):
            count, width = int(fields[0]), int(fields[1])
            if not count or not width:
                raise refuse(1, f"announces {count} vectors of {width} numbers")
            continue
        width = width or len(fields) - 1
        parts = line.rsplit(" ", width) if width > 0 else []  # a word may have spaces in it
        if len(parts) != width + 1 or not parts[0]:
            wanted = f"{width} numbers" if width > 0 else "numbers"
            raise refuse(number, f"needs a word and {wanted}, and has {len(fields)} field(s)")
        word = parts[0]
        try:
            with np.errstate(over="ignore"):
                row = np.array([float(part) for part in parts[1:]]).astype(np.float32)
        except ValueError as error:
            raise refuse(number, f"{error} (the word is {word[:40]!r})") from error
        if not np.isfinite(row).all():
            raise refuse(number, f"the vector of {word[:40]!r} has a number that is not finite in float32")
        if word in words:
            fix = "Remove one of the two lines."
            raise refuse(number, f"has the word {word[:40]!r} again, after line {words[word]}", fix)
        words[word] = number
        rows.append(row)
    if not rows:
        raise InputError(key, path, "it has no vectors", FORM)
    if count and len(rows) != count:
        rule = f"its first line announces {count} vectors, and it has {len(rows)}"
        raise InputError(key, path, rule, "Fetch the whole file, or correct its first line.")
    return WordVectors(name, tuple(words), np.stack(rows))


def vector_tensors(vectors: WordVectors) -> dict[str, Tensor]:
    """Word vectors as a bundle holds them: the words as bytes of UTF-8, a line each."""
    words = np.frombuffer("\n".join(vectors.words).encode(), dtype=np.uint8)
    return {TABLE: torch.from_numpy(vectors.table.copy()), WORDS: torch.from_numpy(words.copy())}


def vectors_in(name: str, tensors: Mapping[str, Tensor]) -> WordVectors:
    """The word vectors of a bundle. Raises KeyError or ValueError where they are not whole."""
    words = tuple(tensors[WORDS].numpy().tobytes().decode().split("\n"))
    table: NDArray[np.float32] = tensors[TABLE].numpy()
    if table.ndim != 2 or len(table) != len(words):
        raise ValueError(f"{TABLE} {table.shape} is not for {len(words)} words")
    return WordVectors(name, words, table)
