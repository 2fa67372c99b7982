"""Bags of rows: which rows of a table each text has, in flat arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.encoder.tokens import Tokens
from pipelines.towers.texts import offsets_of


@dataclass(frozen=True)
class Bags:
    """Rows of a table, text by text. Shapes: rows (total,) int64; offsets (n + 1,) int64."""

    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Rows per text, shape (n,)."""
        return np.diff(self.offsets)

    def take(self, texts: NDArray[np.int64]) -> "Bags":
        """The bags of some texts, in this order."""
        lengths = self.lengths[texts]
        offsets = offsets_of(lengths)
        return Bags(
            self.rows[np.repeat(self.offsets[texts] - offsets[:-1], lengths) + _count(offsets)], offsets
        )

    def keep(self, kept: NDArray[np.bool_]) -> "Bags":
        """Without the rows that are not kept."""
        owners = np.repeat(np.arange(len(self)), self.lengths)[kept]
        return Bags(self.rows[kept], offsets_of(np.bincount(owners, minlength=len(self))))

    def within(self, known: NDArray[np.int64]) -> "Bags":
        """The same as places in `known`, which is sorted; rows that it does not have are left out."""
        places = np.searchsorted(known, self.rows)
        found = np.zeros(len(self.rows), dtype=bool)
        inside = places < len(known)
        found[inside] = known[places[inside]] == self.rows[inside]
        kept = self.keep(found)
        return Bags(places[found].astype(np.int64), kept.offsets)

    def padded(self, texts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows of some texts side by side, (n, longest), 0 as padding; and their lengths, (n,)."""
        taken = self.take(texts)
        lengths = taken.lengths
        found = np.zeros((len(texts), max(1, int(lengths.max(initial=0)))), dtype=np.int64)
        found[np.arange(found.shape[1]) < lengths[:, None]] = taken.rows
        return found, lengths


def bags_of(tokens: Tokens, left_out: Sequence[int] = ()) -> Bags:
    """Tokens as rows of the encoder's table, without some of them."""
    bags = Bags(tokens.ids.astype(np.int64), tokens.offsets)
    bags = bags if tokens.rows is None else bags.take(tokens.rows)
    return bags.keep(~np.isin(bags.rows, left_out)) if left_out else bags


def distinct(columns: Sequence[Bags], vocabulary: int) -> Bags:
    """Each row that a text has, once; those of a pair's second column behind the first's vocabulary."""
    count, size = len(columns[0]), len(columns) * vocabulary
    keys = [
        np.repeat(np.arange(count) * size, bags.lengths) + bags.rows + column * vocabulary
        for column, bags in enumerate(columns)
    ]
    owners, rows = np.divmod(np.unique(np.concatenate(keys)), size)
    return Bags(rows, offsets_of(np.bincount(owners, minlength=count)))


def pool(bags: Bags, table: Tensor, mode: str) -> Tensor:
    """The sum or the mean of each text's rows, zeros where it has none: (n, width)."""
    if not len(bags.rows):
        return table.new_zeros(len(bags), table.shape[1])
    rows, offsets = torch.from_numpy(bags.rows), torch.from_numpy(bags.offsets)
    return torch.nn.functional.embedding_bag(rows, table, offsets, mode=mode, include_last_offset=True)


def _count(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.arange(offsets[-1], dtype=np.int64)
