"""How the tokens of a step lie in the encoder's tensors, and whose they are.

*Padded*: a line of the tensors for each text, as long as the longest: (texts, longest, d). *Flat*: the tokens
of each place side by side, texts without padding, in tiles of `TILE` tokens that belong to one place each:
(tiles, TILE, d). Frozen modules do not notice; attention puts the texts of like length together for itself.
In both, what is computed of one token for each text, (texts, 1, d), has as many texts of each place.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.encoder.batches import send

BLOCKS = (32, 64, 128)  # tokens that a kernel takes at once
TILE = 64  # tokens: a place's last tile is half empty on average
GROUPS = 3  # of texts of like length in attention: each is padded to its longest
ROUND = 8  # tokens: lengths that the matrix units like
_CUTS = 16  # places between two groups that are tried


@dataclass(frozen=True)
class Texts:
    """Where texts lie.

    Attributes:
        places: whose each is, (texts,).
        numbers: each one's number within its place, (texts,).
    """

    places: Tensor
    numbers: Tensor


@dataclass(frozen=True)
class Segments:
    """Texts for kernels that attend to each where it lies. Padding is a segment as well, tile by tile.

    Attributes:
        starts, lengths: of each among the N tokens, int32.
        texts: what each is.
        block: tokens of a block.
        blocks, block_numbers: for each block of tokens: the segment, and which of the segment's blocks it is.
        whole: of each text of the even grid its length.
        whose: of each of the N tokens its text of the even grid; -1 for padding.
    """

    starts: Tensor
    lengths: Tensor
    texts: Texts
    block: int
    blocks: Tensor
    block_numbers: Tensor
    whole: Tensor
    whose: Tensor


@dataclass(frozen=True)
class Groups:
    """Texts of like length side by side, padded to the longest of the group: M tokens with the padding.

    Attributes:
        texts: of all groups, one after the other.
        masks: of each group, which of its tokens are some: (texts, longest).
        grouped: for each of the M the token there, any for padding; `attended` (M, 1) is 0 for that.
        located: for each of the N where it is among the M; `real` (N, 1) is 0 for padding.
        order: for each text of the even grid where it is among these texts.
    """

    texts: Texts
    masks: tuple[Tensor, ...]
    grouped: Tensor
    attended: Tensor
    located: Tensor
    real: Tensor
    order: Tensor


@dataclass(frozen=True)
class Flat:
    """What the flat layout has beside the other: N tokens lie in tiles.

    Attributes:
        tiles: whose each tile is, (tiles,).
        ends: of the layout's places where each one's tokens end among the N, (places,) int32.
        numbers, positions: of each token: its text's number within its place, and where it is in its text,
            (tiles, TILE).
        first: for each text of the even grid where its first token is among the N.
        texts: how attention finds each text's tokens: by kernels, or without them.
        spans: by place, for whom reads every token: where those are among the N, (texts, longest of them).
    """

    tiles: Tensor
    ends: Tensor
    numbers: Tensor
    positions: Tensor
    first: Tensor
    texts: Segments | Groups
    spans: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """Whose rows a batch has.

    Attributes:
        places: those that take part, as a tensor too: (places,).
        texts: as many of each place, one place after the other; filled up where one has fewer.
        flat: None for the padded layout.
        only: the place of every text, where they have the same.
    """

    places: tuple[int, ...]
    chosen: Tensor
    texts: Texts
    flat: Flat | None = None
    only: int | None = None

    @property
    def fused(self) -> bool:
        """Whether Triton's kernels compute what they can."""
        return self.flat is not None and isinstance(self.flat.texts, Segments)

    def own(self, parameter: Tensor, x: Tensor) -> Tensor:
        """For each part that `split` cuts x into, its place's part of a parameter (K, ...)."""
        if self.only is not None:
            return parameter[self.only : self.only + 1]
        tiled = self.tiled(x)
        return parameter.index_select(0, self.chosen if tiled is None else tiled.tiles)

    def of_places(self, parameter: Tensor) -> Tensor:
        """A parameter (K, ...) of the places that take part: (places, ...)."""
        whole = self.places == tuple(range(len(parameter)))
        return parameter if whole else parameter.index_select(0, self.chosen)

    def split(self, x: Tensor) -> Tensor:
        """x (texts or tiles, tokens, d) in parts that belong to one place each: (parts, tokens, d)."""
        if self.only is not None:
            return x.reshape(1, -1, x.shape[-1])
        return x.reshape(len(self.chosen), -1, x.shape[-1]) if self.tiled(x) is None else x

    def whose(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Of x (texts or tiles, tokens, ...): the place of each line, and of each token its text's number
        and its position; None where tokens stand in order.
        """
        if (tiled := self.tiled(x)) is not None:
            return tiled.tiles, tiled.numbers, tiled.positions
        texts = self.texts
        if len(x) != len(texts.places):  # DeBERTa's tables, one for each place: a line for each position
            texts = even_texts(self.places, len(x) // len(self.places), x.device)
        return texts.places, texts.numbers[:, None], None

    def tiled(self, x: Tensor) -> Flat | None:
        """Where the tokens of x lie in tiles; None for lines of texts, and for one token of each text."""
        return None if x.shape[1] == 1 else self.flat


@cache
def has_kernels(device: torch.device) -> bool:
    """Whether a device can run the package `kernels`: a GPU, where Triton is."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def most_tokens(width: int, heads: int, precision: str) -> int:
    """Of a block in attention's kernels: larger ones do not fit a GPU's shared memory."""
    return 128 if width <= 64 * heads and precision == "bf16" else 64


class Current:
    """What all modules of one model share within a step: the batch's layout."""

    def __init__(self) -> None:
        self.layout: Layout | None = None

    @property
    def now(self) -> Layout:
        if self.layout is None:
            raise RuntimeError("no batch is being computed")
        return self.layout


def make_layout(places: Sequence[int], rows: int, device: torch.device) -> Layout:
    """Of a padded batch with so many rows for each of some places, filled up."""
    only = places[0] if len(places) == 1 else None
    chosen = send(torch.tensor(places), device)
    return Layout(tuple(places), chosen, even_texts(places, rows, device), only=only)


def even_texts(places: Sequence[int], rows: int, device: torch.device) -> Texts:
    """The even grid: `rows` texts of each place."""
    return Texts(
        send(torch.tensor(places).repeat_interleave(rows), device),
        torch.arange(rows, dtype=torch.int32, device=device).repeat(len(places)),
    )


def cut_groups(lengths: NDArray[np.int64], groups: int = GROUPS) -> list[int]:
    """Where to cut texts, longest first, into groups, so that padding each to its longest costs the least:
    the ends of all groups. Each has two texts at least, as long as there are so many.
    """
    count = len(lengths)
    groups = max(1, min(groups, count // 2))
    steps = sorted({min(max(2, round(count * at / _CUTS)), count) for at in range(1, _CUTS)} | {count})
    costs: dict[tuple[int, int], tuple[int, list[int]]] = {(0, 0): (0, [])}
    for number in range(1, groups + 1):
        for end in steps:
            found = [
                (cost + (end - start) * int(lengths[start]), [*ends, end])
                for (done, start), (cost, ends) in costs.items()
                if done == number - 1 and end - start >= 2 and (number < groups or end == count)
            ]
            if found:
                costs[number, end] = min(found)
    return costs[groups, count][1] if (groups, count) in costs else [count]
