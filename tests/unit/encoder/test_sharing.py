"""A backbone that travels as arrays: the same network, and not one copy of its weights."""

import pickle

import numpy as np
import pytest
import torch
from tiny import tiny_backbone, toy_task

from pipelines.config import TrainConfig
from pipelines.encoder.architectures import ARCHITECTURES
from pipelines.encoder.sharing import SharedBackbone, share
from pipelines.packs.training import Training

CONFIG = TrainConfig(adapter_size=4, learning_rate=1e-3, epochs=1, batch_size=8)


def sent(shared: SharedBackbone) -> SharedBackbone:
    """To another process and back, its arrays out of band and read-only, as Ray's object store gives them."""
    buffers = []
    data = pickle.dumps(shared, protocol=5, buffer_callback=buffers.append)
    assert len(data) < 100_000  # the weights are not in there
    return pickle.loads(data, buffers=[bytes(one.raw()) for one in buffers])  # noqa: S301 - our own bytes


@pytest.mark.integration
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_training_on_a_shared_backbone_is_training_on_the_backbone(model_type, precision):
    backbone, task = tiny_backbone(model_type), toy_task(rows=16, validation_rows=8)
    runs = [
        Training(one, task, CONFIG, precision=precision)
        for one in (backbone, sent(share(backbone, precision)).open())
    ]
    losses = [next(run.run()).train_loss for run in runs]
    assert losses[0] == losses[1]


def test_the_weights_are_the_very_arrays():
    shared = sent(share(tiny_backbone(), "fp32"))
    opened = shared.open()
    for name, parameter in opened.model.named_parameters():
        assert np.shares_memory(parameter.numpy(), shared.arrays[name])
        assert not parameter.requires_grad
    assert all(p.device.type == "cpu" for p in (*opened.model.parameters(), *opened.model.buffers()))


def test_in_bf16_matrices_travel_rounded_and_norms_whole():
    shared = share(tiny_backbone(), "bf16")
    norms = {name for name, array in shared.arrays.items() if array.dtype == np.float32}
    assert norms == {name for name in shared.arrays if "LayerNorm" in name}
    assert all(shared.arrays[name].dtype == np.int16 for name in shared.rounded)


def test_a_tied_tensor_stays_one():
    backbone = tiny_backbone()
    first, second = backbone.model.encoder.layer
    second.output.dense.weight = first.output.dense.weight
    opened = sent(share(backbone, "fp32")).open().model.encoder.layer
    assert opened[0].output.dense.weight is opened[1].output.dense.weight
    assert opened[0].output.dense.weight.device == torch.device("cpu")
