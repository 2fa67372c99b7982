"""Batches of a pack: the next texts of several trials, padded or flat."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.encoder.batches import Batch, as_floats, collate, send
from pipelines.encoder.tokens import Tokens
from pipelines.packs.layout import (
    BLOCKS,
    ROUND,
    TILE,
    Flat,
    Groups,
    Layout,
    Segments,
    Texts,
    cut_groups,
    make_layout,
)

Name = str | tuple[str, int]


@dataclass(frozen=True)
class Part:
    """A place's texts in a batch: which of its tokens; hidden states (total, d) of all of these, if known.

    Attributes:
        spans: whether its head reads every token.
    """

    place: int
    tokens: Tokens
    indices: NDArray[np.int64]
    hidden: NDArray[np.generic] | None = None
    spans: bool = False


def padded_batch(parts: Sequence[Part], *, pad_id: int, device: torch.device) -> tuple[Batch, Layout]:
    """A line for each text, all as long as the longest."""
    hidden = [part.hidden for part in parts if part.hidden is not None]
    batch = collate(
        [(part.tokens, part.indices) for part in parts],
        pad_id=pad_id,
        device=device,
        prefixes=hidden or None,
    )
    rows = len(batch.input_ids) // len(parts)
    return batch, make_layout([part.place for part in parts], rows, device)


@dataclass(frozen=True)
class Cargo:
    """A flat batch as it travels to the device.

    Attributes:
        arrays: by name, int32; `("span", place)` for whom reads every token.
        hidden: (N, d) of all tokens, if known.
        places: as `Layout` has them.
        groups: (texts, longest) of each of `Groups`; None: `Segments` instead, in blocks of `block`.
    """

    arrays: Mapping[Name, NDArray[np.int32]]
    hidden: NDArray[np.generic] | None
    places: tuple[int, ...]
    groups: tuple[tuple[int, int], ...] | None
    block: int

    @property
    def shape(self) -> Hashable:
        """What it has in common with others that can be computed in the same way."""
        sizes = tuple((name, array.shape) for name, array in self.arrays.items())
        return sizes, self.places, self.groups, self.block

    def flattened(self) -> NDArray[np.int32]:
        """All arrays, one after the other."""
        return np.concatenate([array.ravel() for array in self.arrays.values()])

    def tensors(self, flattened: Tensor) -> dict[Name, Tensor]:
        """The arrays again, as views."""
        parts = flattened.split([array.size for array in self.arrays.values()])
        named = zip(self.arrays.items(), parts, strict=True)
        return {name: part.view(array.shape) for (name, array), part in named}


def flat_batch(
    parts: Sequence[Part], *, pad_id: int, device: torch.device, fused: bool = False
) -> tuple[Batch, Layout]:
    """The tokens of each place side by side, in tiles.

    Args:
        fused: for kernels.
    """
    cargo = flat_cargo(parts, pad_id=pad_id, fused=fused)
    hidden = None if cargo.hidden is None else send(as_floats(cargo.hidden), device)
    return unpack(cargo, send(torch.from_numpy(cargo.flattened()), device), hidden)


def flat_cargo(
    parts: Sequence[Part],
    *,
    pad_id: int,
    fused: bool,
    room: int = 0,
    keys: Sequence[int] = (),
    most: int = 64,
) -> Cargo:
    """A flat batch's arrays.

    Args:
        room: texts of the largest batch that any place has; sizes are then made alike for many batches: the
            last place has more padding, and each as many texts. 0: sizes are as they come.
        keys: of dropout, for all of a pack's places.
        most: tokens of a block.
    """
    lengths = [part.tokens.lengths[part.indices] for part in parts]
    tiles = [max(1, -(-int(own.sum()) // TILE)) for own in lengths]
    if room:
        tiles[-1] += _rounded(sum(tiles)) - sum(tiles)
    ends = np.cumsum(tiles) * TILE
    starts = ends - np.array(tiles) * TILE  # where each place's first token lies
    total = int(ends[-1])
    source = [
        _ranges(part.tokens.starts[part.indices], own) for part, own in zip(parts, lengths, strict=True)
    ]
    begins = [np.cumsum(own) - own for own in lengths]  # of each text in its place
    ids = np.full(total, pad_id, dtype=np.int32)
    has_types = all(part.tokens.types is not None for part in parts)
    types = np.zeros(total if has_types else 0, dtype=np.int32)
    numbers, positions, real = (np.zeros(total, dtype=np.int32) for _ in range(3))
    first_hidden = parts[0].hidden
    hidden = None
    if first_hidden is not None:
        hidden = np.zeros((total, first_hidden.shape[1]), dtype=first_hidden.dtype)
    for part, start, where, own, begin in zip(parts, starts, source, lengths, begins, strict=True):
        line = slice(start, start + len(where))
        ids[line] = part.tokens.ids[where]
        if has_types and part.tokens.types is not None:
            types[line] = part.tokens.types[where]
        numbers[line] = np.repeat(np.arange(len(own)), own)
        positions[line] = np.arange(len(where)) - np.repeat(begin, own)
        real[line] = 1
        if hidden is not None and part.hidden is not None:
            hidden[line] = part.hidden[where]
    places = np.array([part.place for part in parts])
    rows = max(room, *map(len, lengths))
    texts = _Texts(
        starts=np.concatenate([start + begin for start, begin in zip(starts, begins, strict=True)]),
        lengths=np.concatenate(lengths),
        places=np.repeat(places, [len(own) for own in lengths]),
        numbers=np.concatenate([np.arange(len(own)) for own in lengths]),
    )
    grid = _even_grid([len(own) for own in lengths], rows)
    arrays: dict[Name, NDArray[np.integer]] = {
        "ids": ids,
        "types": types,
        "positions": positions,
        "numbers": numbers,
        "tiles": np.repeat(places, tiles),
        "ends": ends,
        "chosen": places,
        "keys": np.array(keys, dtype=np.int32),
        "even places": np.repeat(places, rows),
        "even numbers": np.tile(np.arange(rows), len(parts)),
        "first": texts.starts[grid],
    }
    groups, block = None, min(most, _block([part.tokens for part in parts]))
    if fused:
        padding = starts + np.array([int(own.sum()) for own in lengths])
        arrays |= _segments(texts, places, padding, ends, rows, block)
        arrays["whole"] = texts.lengths[grid]
        counts = np.array([len(own) for own in lengths])
        first_rows = np.repeat(np.arange(len(parts)) * rows - (np.cumsum(counts) - counts), counts)
        whose = np.full(total, -1)
        whose[real != 0] = np.repeat(np.arange(len(first_rows)) + first_rows, texts.lengths)
        arrays["whose"] = whose
    else:
        grouped, groups = _groups(texts, real, starts, tiles, grid)
        arrays |= grouped | {"real": real}
    longest = max(int(own.max()) for own in lengths)
    for part, start, begin, own in zip(parts, starts, begins, lengths, strict=True):
        if part.spans and room:
            arrays["span", part.place] = _span(start, begin, own, rows, -(-longest // TILE) * TILE)
        elif part.spans:
            arrays["span", part.place] = _span(start, begin, own, len(own), int(own.max()))
    return Cargo(
        {name: array.astype(np.int32, copy=False) for name, array in arrays.items()},
        hidden,
        tuple(part.place for part in parts),
        groups,
        block,
    )


def unpack(cargo: Cargo, flattened: Tensor, hidden: Tensor | None) -> tuple[Batch, Layout]:
    """The batch of a cargo that has come to the device; of `cargo` itself only shapes are read."""
    sent = cargo.tensors(flattened)
    shape = (len(sent["tiles"]), TILE)
    positions = sent["positions"].view(shape)
    flat = Flat(
        tiles=sent["tiles"],
        ends=sent["ends"],
        numbers=sent["numbers"].view(shape),
        positions=positions,
        first=sent["first"],
        texts=_sent_segments(sent, cargo.block) if cargo.groups is None else _sent_groups(sent, cargo.groups),
        spans={name[1]: tensor for name, tensor in sent.items() if isinstance(name, tuple)},
    )
    batch = Batch(
        input_ids=sent["ids"].view(shape).long(),
        attention_mask=None,
        token_type_ids=sent["types"].view(shape).long() if len(sent["types"]) else None,
        hidden=None if hidden is None else hidden.view(*shape, -1),
        positions=positions.long(),
    )
    layout = Layout(
        cargo.places,
        sent["chosen"],
        Texts(sent["even places"], sent["even numbers"]),
        flat,
        cargo.places[0] if len(cargo.places) == 1 else None,
    )
    return batch, layout


def _sent_segments(sent: Mapping[Name, Tensor], block: int) -> Segments:
    return Segments(
        starts=sent["segment starts"],
        lengths=sent["segment lengths"],
        texts=Texts(sent["segment places"], sent["segment numbers"]),
        block=block,
        blocks=sent["blocks"],
        block_numbers=sent["block numbers"],
        whole=sent["whole"],
        whose=sent["whose"],
    )


def _sent_groups(sent: Mapping[Name, Tensor], shapes: Sequence[tuple[int, int]]) -> Groups:
    lengths = sent["lengths"].split([count for count, _ in shapes])
    masks = [
        torch.arange(longest, dtype=torch.int32, device=own.device) < own[:, None]
        for own, (_, longest) in zip(lengths, shapes, strict=True)
    ]
    return Groups(
        texts=Texts(sent["places of texts"], sent["numbers of texts"]),
        masks=tuple(masks),
        grouped=sent["grouped"],
        attended=torch.cat([mask.flatten() for mask in masks])[:, None],
        located=sent["located"],
        real=sent["real"][:, None] != 0,
        order=sent["order"],
    )


@dataclass(frozen=True)
class _Texts:
    """Of all texts of a batch, place by place: where they lie, and what they are."""

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    places: NDArray[np.int64]
    numbers: NDArray[np.int64]


def _groups(
    texts: _Texts,
    real: NDArray[np.int32],
    starts: NDArray[np.int64],
    tiles: Sequence[int],
    grid: NDArray[np.int64],
) -> tuple[dict[Name, NDArray[np.integer]], tuple[tuple[int, int], ...]]:
    """The arrays of `Groups`, and each group's texts and longest.

    Padding stands for a token of its own place, always: what is not a number in one must not reach another.
    """
    order = np.argsort(-texts.lengths, kind="stable")
    lengths, where = texts.lengths[order], texts.starts[order]
    located = np.zeros(len(real), dtype=np.int64)
    grouped, shapes = [], []
    done = begin = 0
    for end in cut_groups(lengths):
        own = slice(begin, end)
        longest = -(-int(lengths[begin]) // ROUND) * ROUND
        shapes.append((end - begin, longest))
        begin = end
        steps = np.arange(longest)
        mask = steps < lengths[own][:, None]
        index = where[own][:, None] + np.where(mask, steps, 0)
        located[index[mask]] = done + np.flatnonzero(mask)
        done += mask.size
        grouped.append(index.ravel())
    for start, count in zip(starts, tiles, strict=True):
        line = slice(start, start + count * TILE)
        located[line] = np.where(real[line] != 0, located[line], located[start])
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    arrays: dict[Name, NDArray[np.integer]] = {
        "places of texts": texts.places[order],
        "numbers of texts": texts.numbers[order],
        "lengths": lengths,
        "grouped": np.concatenate(grouped),
        "located": located,
        "order": rank[grid],
    }
    return arrays, tuple(shapes)


def _segments(
    texts: _Texts,
    places: NDArray[np.int64],
    padding: NDArray[np.int64],
    ends: NDArray[np.int64],
    rows: int,
    block: int,
) -> dict[Name, NDArray[np.integer]]:
    """The arrays of `Segments`, as long for all batches of so many tiles and rows: the last are empty.

    Args:
        padding: where each place's padding begins.
    """
    cuts = [np.array([start, *range(-(-start // TILE) * TILE, end, TILE)]) for start, end in
            zip(padding.tolist(), ends.tolist(), strict=True)]  # fmt: skip
    sizes = [np.diff([*own, end]) for own, end in zip(cuts, ends.tolist(), strict=True)]
    lengths = np.concatenate([texts.lengths, *sizes])
    blocks = -(-lengths // block)
    tiles = int(ends[-1]) // TILE
    count = len(places) * (rows + 2) + tiles
    room = tiles * max(1, TILE // block) + len(places) * (rows + 2)
    return {
        "segment starts": _filled(np.concatenate([texts.starts, *cuts]), count),
        "segment lengths": _filled(lengths, count),
        "segment places": _filled(
            np.concatenate([texts.places, np.repeat(places, [len(own) for own in cuts])]), count
        ),
        "segment numbers": _filled(texts.numbers, count),
        "blocks": _filled(np.repeat(np.arange(len(lengths)), blocks), room, count - 1),
        "block numbers": _filled(
            np.arange(blocks.sum()) - np.repeat(np.cumsum(blocks) - blocks, blocks), room
        ),
    }


def _filled(array: NDArray[np.int64], count: int, value: int = 0) -> NDArray[np.int64]:
    return np.concatenate([array, np.full(count - len(array), value)])


def _block(of: Sequence[Tokens]) -> int:
    """Tokens of a block, for texts of all of these: most texts have one."""
    tokens, texts = sum(int(own.lengths.sum()) for own in of), sum(len(own) for own in of)
    return min((block for block in BLOCKS if tokens <= block * texts), default=max(BLOCKS))


def _rounded(tiles: int) -> int:
    """The next larger count of tiles of those that batches have: one eighth more at most."""
    step = 1 << max(0, tiles.bit_length() - 4)
    return -(-tiles // step) * step


def _even_grid(counts: Sequence[int], rows: int) -> NDArray[np.int64]:
    """Which text stands at each place of the even grid, of all texts. Who has fewer repeats its first."""
    have = np.array(counts)
    steps = np.arange(rows)
    grid: NDArray[np.int64] = (np.cumsum(have) - have)[:, None] + np.where(steps < have[:, None], steps, 0)
    return grid.ravel()


def _span(
    start: int, begins: NDArray[np.int64], lengths: NDArray[np.int64], rows: int, longest: int
) -> NDArray[np.int64]:
    """Where the tokens of a place's texts lie, (rows, longest); for padding, the place's first."""
    steps, where = np.arange(longest), np.full((rows, longest), start)
    where[: len(lengths)] += np.where(steps < lengths[:, None], begins[:, None] + steps, 0)
    return where


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers from each start on, so many of them, one range after the other."""
    shifts: NDArray[np.int64] = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return shifts + np.arange(len(shifts))
