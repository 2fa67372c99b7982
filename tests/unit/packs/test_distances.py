"""MPNet's terms of distance: what transformers computes for a line, in both layouts and at any length."""

import numpy as np
import pytest
import torch
from tiny import tiny_backbone

from pipelines.config import TrainConfig
from pipelines.encoder.tokens import Tokens
from pipelines.packs.batches import Part, flat_batch, padded_batch
from pipelines.packs.distances import REACH
from pipelines.packs.model import Occupant, PackModel

CPU = torch.device("cpu")
LENGTHS = np.array([3, REACH + 72, 64, 129])


@pytest.fixture(scope="module")
def backbone():
    """Its terms are large enough to be seen."""
    found = tiny_backbone("mpnet", max_position_embeddings=300)
    with torch.no_grad():
        found.model.encoder.relative_attention_bias.weight.normal_(std=2.0)
    return found


@pytest.fixture(scope="module")
def tokens():
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    ids = np.random.default_rng(0).integers(5, 99, offsets[-1], dtype=np.int32)
    return Tokens(ids, offsets, None)


def by_transformers(backbone, tokens):
    """Each text by itself."""
    found = []
    for start, end in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True):
        ids = torch.from_numpy(tokens.ids[start:end]).long()[None]
        with torch.no_grad():
            found.append(backbone.model(ids).last_hidden_state.mean(1))
    return torch.cat(found)


@pytest.mark.parametrize("make", [padded_batch, flat_batch])
@pytest.mark.parametrize("places", [1, 2])
def test_untrained_texts_have_the_vectors_of_transformers(backbone, tokens, make, places):
    occupants = [Occupant(TrainConfig(method="layer_norm"), 2)] * places
    model = PackModel(backbone, occupants, pooling="mean").eval()
    for place in range(places):
        values = {f"norm.{path}": own for path, own in backbone.model.named_parameters()}
        model.load({name: values.get(name, view) for name, view in model.trained(place).items()}, place)
    parts = [Part(place, tokens, np.arange(len(LENGTHS))) for place in range(places)]
    with torch.no_grad():
        summary, _ = model.encode(*make(parts, pad_id=backbone.pad_id, device=CPU))
    expected = by_transformers(backbone, tokens)
    torch.testing.assert_close(summary, expected.repeat(places, 1), rtol=1e-4, atol=1e-5)
