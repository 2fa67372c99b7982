"""Batches of like length, so that little of a step is spent on padding."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.tokens import Tokens

POOL_BATCHES = (
    32  # batches that are sorted by length together: enough to pad little, few enough to stay random
)


@dataclass(frozen=True)
class Batch:
    """Padded tokens. Shapes: all (batch, longest); attention_mask is 1 on tokens, 0 on padding."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None


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


def evaluation_batches(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Every example once, longest first, so that the first batch shows whether memory suffices."""
    order = np.argsort(-lengths, kind="stable")
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]


def collate(tokens: Tokens, indices: NDArray[np.int64], *, pad_id: int, device: torch.device) -> Batch:
    """Pad the texts at `indices` to the longest of them."""
    lengths = tokens.lengths[indices]
    mask = np.arange(lengths.max()) < lengths[:, None]
    source = np.concatenate([np.arange(tokens.offsets[i], tokens.offsets[i + 1]) for i in indices])
    input_ids = np.full(mask.shape, pad_id, dtype=np.int64)
    input_ids[mask] = tokens.ids[source]
    types = None
    if tokens.types is not None:
        types = np.zeros(mask.shape, dtype=np.int64)
        types[mask] = tokens.types[source]
    return Batch(
        input_ids=torch.from_numpy(input_ids).to(device),
        attention_mask=torch.from_numpy(mask.astype(np.int64)).to(device),
        token_type_ids=None if types is None else torch.from_numpy(types).to(device),
    )
