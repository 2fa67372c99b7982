"""Batches of a pack: the next texts of several trials, padded or flat."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.encoder.batches import Batch, as_floats, collate
from pipelines.encoder.tokens import Tokens
from pipelines.packs.layout import ROUND, TILE, Flat, Layout, Texts, cut_groups, make_layout


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


def with_idle(parts: Sequence[Part], count: int) -> Sequence[Part]:
    """Two parts at least, of `count` places: a single one has an idle neighbour, without texts."""
    if len(parts) > 1 or count < 2:
        return parts
    idle = (parts[0].place + 1) % count
    return [parts[0], replace(parts[0], place=idle, indices=parts[0].indices[:0], spans=False)]


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


def flat_batch(parts: Sequence[Part], *, pad_id: int, device: torch.device) -> tuple[Batch, Layout]:
    """The tokens of each place side by side, in tiles."""
    lengths = [part.tokens.lengths[part.indices] for part in parts]  # none of an idle place
    tiles = [max(1, -(-int(own.sum()) // TILE)) for own in lengths]
    starts = np.cumsum([0, *tiles[:-1]]) * TILE  # where each place's first token lies
    total = sum(tiles) * TILE
    source = [
        _ranges(part.tokens.offsets[part.indices], own) for part, own in zip(parts, lengths, strict=True)
    ]
    begins = [np.cumsum(own) - own for own in lengths]  # of each text in its place
    ids = np.full(total, pad_id, dtype=np.int64)
    types = np.zeros(total, dtype=np.int64)
    numbers = np.zeros(total, dtype=np.int32)
    positions = np.zeros(total, dtype=np.int64)
    real = np.zeros((total, 1), dtype=bool)
    first_hidden = parts[0].hidden
    hidden = None
    if first_hidden is not None:
        hidden = np.zeros((total, first_hidden.shape[1]), dtype=first_hidden.dtype)
    for part, start, where, own, begin in zip(parts, starts, source, lengths, begins, strict=True):
        line = slice(start, start + len(where))
        ids[line] = part.tokens.ids[where]
        if part.tokens.types is not None:
            types[line] = part.tokens.types[where]
        numbers[line] = np.repeat(np.arange(len(own)), own)
        positions[line] = np.arange(len(where)) - np.repeat(begin, own)
        real[line] = True
        if hidden is not None and part.hidden is not None:
            hidden[line] = part.hidden[where]
    flat = _flat(parts, starts, lengths, begins, tiles, real, numbers, positions, device)
    places = [part.place for part in parts]
    rows = max(map(len, lengths))
    shape = (sum(tiles), TILE)

    def moved(array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(array).view(*shape, *array.shape[1:]).to(device)

    batch = Batch(
        input_ids=moved(ids),
        attention_mask=None,
        token_type_ids=None if any(part.tokens.types is None for part in parts) else moved(types),
        hidden=None if hidden is None else as_floats(hidden).view(*shape, -1).to(device),
        positions=moved(positions),
    )
    idle = [part.place for part in parts if not len(part.indices)]
    return batch, make_layout(places, rows, device, flat=flat, idle=idle)


def _flat(
    parts: Sequence[Part],
    starts: NDArray[np.int64],
    lengths: Sequence[NDArray[np.int64]],
    begins: Sequence[NDArray[np.int64]],
    tiles: Sequence[int],
    real: NDArray[np.bool_],
    numbers: NDArray[np.int32],
    positions: NDArray[np.int64],
    device: torch.device,
) -> Flat:
    rows = max(map(len, lengths))
    every = np.concatenate(lengths)
    where = np.concatenate([start + begin for start, begin in zip(starts, begins, strict=True)])
    whose = np.repeat([part.place for part in parts], [len(own) for own in lengths])
    number = np.concatenate([np.arange(len(own)) for own in lengths])
    order = np.argsort(-every, kind="stable")
    grouped, attended, masks = [], [], []
    # Padding stands for a token of its own place, always: what is not a number in one must not reach another.
    located = np.zeros(len(real), dtype=np.int64)
    done, cut = 0, 0
    for end in cut_groups(every[order]):
        texts, cut = order[cut:end], end
        longest = -(-int(every[texts].max()) // ROUND) * ROUND
        steps = np.arange(longest)
        mask = steps < every[texts][:, None]
        index = where[texts][:, None] + np.where(mask, steps, 0)
        located[index[mask]] = done + np.flatnonzero(mask)
        done += mask.size
        grouped.append(index.ravel())
        attended.append(mask.ravel())
        masks.append(torch.from_numpy(mask).to(device))
    for part_start, count in zip(starts, tiles, strict=True):
        line = slice(part_start, part_start + count * TILE)
        located[line] = np.where(real[line, 0], located[line], located[part_start])
    # The even grid: who has fewer texts repeats its first; an idle place has another's, which nobody reads.
    counts = np.array([len(own) for own in lengths])
    steps = np.arange(rows)
    grid = (np.cumsum(counts) - counts)[:, None] + np.where(steps < counts[:, None], steps, 0)
    grid = np.minimum(grid, len(order) - 1).ravel()
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))

    def moved(array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    return Flat(
        tiles=moved(np.repeat([part.place for part in parts], tiles)),
        numbers=moved(numbers.reshape(-1, TILE)),
        positions=moved(positions.reshape(-1, TILE).astype(np.int32)),
        texts=Texts(moved(whose[order]), moved(number[order].astype(np.int32))),
        masks=tuple(masks),
        grouped=moved(np.concatenate(grouped)),
        attended=moved(np.concatenate(attended)[:, None]),
        located=moved(located),
        real=moved(real),
        first=moved(where[grid]),
        order=moved(rank[grid]),
        spans={
            part.place: moved(
                start
                + np.where(np.arange(own.max()) < own[:, None], begin[:, None] + np.arange(own.max()), 0)
            )
            for part, start, own, begin in zip(parts, starts, lengths, begins, strict=True)
            if part.spans
        },
    )


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers from each start on, so many of them, one range after the other."""
    shifts: NDArray[np.int64] = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return shifts + np.arange(len(shifts))
