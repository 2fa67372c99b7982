"""Kernels compute what plain modules do: attention, dropout, norms, means and the optimizer's step.

On a GPU they run as they are; elsewhere with TRITON_INTERPRET=1, where Triton is installed.
"""

import importlib.util
import os

import numpy as np
import pytest
import torch
from places import three_places
from tiny import tiny_backbone, toy_task

from pipelines.config import TrainConfig
from pipelines.encoder.batches import step_key
from pipelines.encoder.precision import autocast
from pipelines.packs import bank
from pipelines.packs.batches import Part, flat_batch
from pipelines.packs.model import Occupant, PackModel
from pipelines.packs.pack import Pack
from pipelines.packs.training import Training

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None
        or not (torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"),
        reason="needs Triton, and a GPU or TRITON_INTERPRET=1",
    ),
    pytest.mark.filterwarnings("ignore"),
]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FLAT = ("bert", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta")


def outputs_and_gradients(backbone, occupants, parts, pooling, *, fused, precision="fp32"):
    torch.manual_seed(0)
    model = PackModel(backbone, occupants, pooling=pooling).train()
    with torch.no_grad():
        model.bank.values.normal_(std=0.1)
    keys = [step_key(1, place) for place in range(len(occupants))]
    model.masks.begin(torch.tensor(keys, dtype=torch.int32, device=DEVICE))
    batch, layout = flat_batch(parts, pad_id=backbone.pad_id, device=DEVICE, fused=fused)
    with autocast(DEVICE, precision):
        found = model(batch, layout)
    outputs = [own[: len(part.indices)] for own, part in zip(found, parts, strict=True)]
    sum(own.square().sum() for own in outputs).backward()
    return outputs, model.bank.gradients


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("model_type", FLAT)
def test_kernels_give_the_outputs_and_gradients_of_plain_modules(model_type, pooling):
    backbone = tiny_backbone(model_type)
    backbone.model.to(DEVICE)
    occupants, parts = three_places(toy_task(rows=24, validation_rows=8).train)
    plain, kernels = (
        outputs_and_gradients(backbone, occupants, parts, pooling, fused=fused) for fused in (False, True)
    )
    for own, other in zip(plain[0], kernels[0], strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plain[1], kernels[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model_type", ["bert", "mpnet"])
def test_a_text_of_several_blocks_is_attended_to_whole(model_type):
    backbone = tiny_backbone(model_type, max_position_embeddings=300)
    with torch.no_grad():
        for name, parameter in backbone.model.named_parameters():
            if "relative" in name:
                parameter.normal_(std=2.0)
    backbone.model.to(DEVICE)
    generator = np.random.default_rng(0)
    lengths = np.array([200, 3, 64, 129])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = type(toy_task().train)(generator.integers(5, 99, offsets[-1], dtype=np.int32), offsets, None)
    occupants = [Occupant(TrainConfig(method="adapter", adapter_size=4, dropout=0.2), 2)]
    parts = [Part(0, tokens, np.arange(4))]
    plain, kernels = (
        outputs_and_gradients(backbone, occupants, parts, "mean", fused=fused) for fused in (False, True)
    )
    torch.testing.assert_close(plain[0], kernels[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plain[1], kernels[1], rtol=1e-3, atol=1e-4)


def test_the_update_is_that_of_plain_operations():
    from pipelines.packs.kernels.update import update

    torch.manual_seed(0)
    matrices = [torch.randn(3, 2500), torch.randn(3, 2500), torch.randn(3, 2500), torch.rand(3, 2500)]
    columns = [torch.tensor(own)[:, None] for own in ([0.1, 0.9, 1.0], [1e-3, 0.5, 1.0], [1e-2, 1e-3, 0.1])]
    columns.append(torch.tensor([0.1, 0.0, 0.01])[:, None])
    shrink = torch.tensor([[1.0], [0.3], [0.01]])
    found = []
    for function in (bank.update, update):
        own = [matrix.clone().to(DEVICE) for matrix in matrices]
        moved = [column.to(DEVICE) for column in columns]
        function(*own, shrink.to(DEVICE), moved, decayed=1300, betas=(0.9, 0.999), epsilon=1e-6)
        found.append(own)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model_type", FLAT)
def test_a_pack_of_recorded_passes_has_the_losses_of_a_plain_one(model_type, precision):
    """Also those of a trial that takes the place of another, with its own dropout and size."""
    backbone = tiny_backbone(model_type)
    backbone.model.to(DEVICE)
    backbone = backbone.stored(precision)
    tasks = [toy_task(rows=96, validation_rows=24), toy_task(rows=70, validation_rows=20, seed=1)]
    found = []
    for fused in (False, True):
        pack = Pack(backbone, pooling="mean", precision=precision, fused=fused)

        def begin(seed, pack=pack, **changes):
            given = {"adapter_size": 8, "seed": seed, "learning_rate": 1e-3, "epochs": 3, "batch_size": 8}
            return Training(backbone, tasks[seed % 2], TrainConfig(**given | changes), pack=pack)

        trials = [begin(0), begin(1, epochs=1), begin(2)]
        while not all(trial.finished for trial in trials):
            pack.step()
            if len(trials) == 3 and trials[1].finished:
                pack.leave(trials[1])
                trials.append(begin(3, adapter_size=4, dropout=0.3))
        assert pack.fused is fused  # the kernels have not failed
        found.append([epoch.train_loss for trial in trials for epoch in trial.epochs])
    assert found[1] == pytest.approx(found[0], rel=1e-5 if precision == "fp32" else 2e-2)
