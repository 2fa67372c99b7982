"""Three trials in one pass, as unlike as trials of a pack can be, and their texts."""

import numpy as np

from pipelines.config import TrainConfig
from pipelines.encoder.tokens import Tokens
from pipelines.packs.batches import Part
from pipelines.packs.model import Occupant


def three_places(tokens: Tokens) -> tuple[list[Occupant], list[Part]]:
    """Of other sizes, rates, heads and counts of texts, of 24 texts."""
    occupants = [
        Occupant(TrainConfig(method="adapter", adapter_size=size, dropout=rate, seed=size), outputs)
        for size, rate, outputs in ((4, 0.3, 2), (8, 0.1, 3), (2, 0.0, 1))
    ]
    rows = ((0, 7), (4, 9), (9, 24))
    return occupants, [Part(place, tokens, np.arange(*own)) for place, own in enumerate(rows)]
