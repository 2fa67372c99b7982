"""Batches of like length, so that little of a step is spent on padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.encoder.tokens import Tokens

POOL_BATCHES = (
    32  # batches that are sorted by length together: enough to pad little, few enough to stay random
)


@dataclass(frozen=True)
class Batch:
    """Tokens. Shapes: all (batch, longest); attention_mask is 1 on tokens, 0 on padding.

    `hidden` (batch, longest, d), if given, is the output of the layers that no trial trains: see `prefix`.
    Where several texts stand in one line (`packs.layout`), `positions` says where each token is in its own,
    and there is no mask.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    token_type_ids: Tensor | None
    hidden: Tensor | None = None
    positions: Tensor | None = None


def training_batches(
    lengths: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Every example once, in random batches of like length; a function of (seed, epoch) alone.

    Examples are shuffled, cut into pools of `POOL_BATCHES` batches, sorted by length within a pool and cut
    into batches, whose order is shuffled again.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    batches: list[NDArray[np.int64]] = []
    pool_size = batch_size * POOL_BATCHES
    for start in range(0, len(order), pool_size):
        pool = order[start : start + pool_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
    return [batches[index] for index in rng.permutation(len(batches))]


def step_key(seed: int, step: int) -> int:
    """A trial's key for one optimizer step, as a signed 32-bit number."""
    state = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64  # splitmix64's finaliser
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    bits = (state ^ state >> 31) % 2**32
    return bits - 2**32 if bits >= 2**31 else bits


def evaluation_batches(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Every example once, longest first, so that the first batch shows whether memory suffices."""
    order = np.argsort(-lengths, kind="stable")
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]


def collate(
    parts: Sequence[tuple[Tokens, NDArray[np.int64]]],
    *,
    pad_id: int,
    device: torch.device,
    prefixes: Sequence[NDArray[np.generic]] | None = None,
) -> Batch:
    """Pad texts to the longest of them, the rows of each part below those of the part before.

    Parts with fewer rows than the largest are filled up with rows of one padding token.

    Args:
        parts: tokens, and which texts of them.
        prefixes: for each part the hidden states of its tokens, (total, d) float32, or bfloat16 as int16.
    """
    rows = max(len(indices) for _, indices in parts)
    longest = max(int(tokens.lengths[indices].max()) for tokens, indices in parts)
    shape = (len(parts) * rows, longest)
    mask = np.zeros(shape, dtype=bool)
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    types = None if any(tokens.types is None for tokens, _ in parts) else np.zeros(shape, dtype=np.int64)
    hidden = None if prefixes is None else np.zeros((*shape, prefixes[0].shape[1]), dtype=prefixes[0].dtype)
    for number, (tokens, indices) in enumerate(parts):
        top = number * rows
        own = slice(top, top + len(indices))
        begins, lengths = tokens.starts[indices], tokens.lengths[indices]
        source = np.concatenate([np.arange(at, at + own) for at, own in zip(begins, lengths, strict=True)])
        mask[own] = np.arange(longest) < lengths[:, None]
        input_ids[own][mask[own]] = tokens.ids[source]
        if types is not None and tokens.types is not None:
            types[own][mask[own]] = tokens.types[source]
        if hidden is not None and prefixes is not None:
            hidden[own][mask[own]] = prefixes[number][source]
        mask[top + len(indices) : top + rows, 0] = True  # attention over nothing would not be a number
    return Batch(
        input_ids=send(torch.from_numpy(input_ids), device),
        attention_mask=send(torch.from_numpy(mask.astype(np.int64)), device),
        token_type_ids=None if types is None else send(torch.from_numpy(types), device),
        hidden=None if hidden is None else send(as_floats(hidden), device),
    )


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; unlike with `Tensor.to`, nothing waits until a GPU has done its work."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def as_floats(hidden: NDArray[np.generic]) -> Tensor:
    """Hidden states as `prefix` keeps them: float32, or bfloat16's bits."""
    tensor = torch.from_numpy(hidden)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor
