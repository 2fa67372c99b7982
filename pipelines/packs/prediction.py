"""What places of a pack's model make of whole sets of texts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.encoder.batches import evaluation_batches
from pipelines.encoder.precision import autocast
from pipelines.encoder.tokens import Tokens
from pipelines.packs.batches import Part, flat_batch, padded_batch
from pipelines.packs.model import PackModel

EVALUATION_BATCH = 64  # examples
GPU_TOKENS = 1 << 18  # of all members that are validated together, in the mean


def predict(
    model: PackModel,
    tokens: Tokens,
    *,
    pad_id: int,
    precision: str,
    place: int = 0,
) -> NDArray[np.float64]:
    """A place's outputs for every text, in the order of `tokens`: (n, outputs); of spans (all tokens, 2)."""
    part = Part(place, tokens, np.arange(0))
    return predict_all(model, [part], pad_id=pad_id, precision=precision, flat=False)[0]


@torch.inference_mode()
def predict_all(
    model: PackModel,
    parts: Sequence[Part],
    *,
    pad_id: int,
    precision: str,
    flat: bool,
    fused: bool = False,
) -> list[NDArray[np.float64]]:
    """The outputs of several places, each for every text of its part, as `predict` gives them."""
    model.eval()
    device = model.bank.values.device
    results, queues = [], []
    for part in parts:
        occupant = model.occupant(part.place)
        count = int(part.tokens.lengths.sum()) if occupant.spans else len(part.tokens)
        results.append(np.empty((count, occupant.outputs), dtype=np.float64))
        rows = EVALUATION_BATCH
        if device.type != "cpu" and len(part.tokens):
            rows = max(rows, int(GPU_TOKENS / part.tokens.lengths.mean()) // len(parts))
        queues.append(evaluation_batches(part.tokens.lengths, rows))
    for number in range(max(map(len, queues))):
        left = [index for index, queue in enumerate(queues) if number < len(queue)]
        now = [replace(parts[index], indices=queues[index][number]) for index in left]
        if flat:
            batch, layout = flat_batch(now, pad_id=pad_id, device=device, fused=fused)
        else:
            batch, layout = padded_batch(now, pad_id=pad_id, device=device)
        with autocast(device, precision):
            found = model(batch, layout)
        for index, part, values in zip(left, now, _on_cpu(found), strict=True):
            if model.occupant(part.place).spans:
                lengths = part.tokens.lengths
                ends = np.cumsum(lengths)
                for row, text in enumerate(part.indices):
                    start, end = ends[text] - lengths[text], ends[text]
                    results[index][start:end] = values[row, : end - start]
            else:
                results[index][part.indices] = values[: len(part.indices)]
    return results


def _on_cpu(outputs: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    """Several tensors as arrays, for which a GPU is waited for once."""
    flat = torch.cat([one.flatten() for one in outputs]).cpu()
    parts = flat.split([one.numel() for one in outputs])
    return [part.view(one.shape).numpy() for part, one in zip(parts, outputs, strict=True)]
