"""Sentence vectors: what the frozen encoder's pooling makes of a text, nothing trained."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.encoder.backbone import Backbone
from pipelines.encoder.batches import collate, evaluation_batches
from pipelines.encoder.frozen import encoder_inputs, pooled, takes_segments
from pipelines.encoder.precision import autocast
from pipelines.encoder.tokens import Tokens

BATCH = 64  # texts


@torch.inference_mode()
def sentence_vectors(
    backbone: Backbone, tokens: Tokens, pooling: str, precision: str
) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """Compute them: pieces of (text, its vector (1, d) float32), longest texts first."""
    model = backbone.stored(precision).model
    device = next(model.parameters()).device
    segments = takes_segments(model)
    for indices in evaluation_batches(tokens.lengths, BATCH):
        batch = collate([(tokens, indices)], pad_id=backbone.pad_id, device=device)
        with autocast(device, precision):
            output = model(**encoder_inputs(batch, segments=segments))
            vectors = pooled(output, batch.attention_mask, pooling).float().cpu().numpy()
        yield from ((int(index), vectors[row : row + 1]) for row, index in enumerate(indices))
