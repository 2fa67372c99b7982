"""Checkpoints and bundles of commit 438765f are read as they were written."""

import pytest
import torch
from old_formats import expected, unpack

from pipelines.bundle import AdapterBundle
from pipelines.checkpoint import dump_state, load_state
from pipelines.encoder.backbone import load_backbone

TEXTS = ["goal team match", "bank price share", "market win"]  # what make.py predicted


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    return unpack(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def backbone(old):
    return load_backbone(str(old / "encoder"))


def test_every_checkpoint_opens_and_is_written_again_as_it_was(old):
    paths = sorted(old.glob("runs/*/checkpoints/*/*/*.safetensors"))
    assert len(paths) == 28
    for path in paths:
        state = load_state(path.read_bytes())
        assert [epoch.epoch for epoch in state.epochs] == list(range(1, len(state.epochs) + 1))
        again = load_state(dump_state(state))
        assert (again.config, again.epochs) == (state.config, state.epochs)
        assert again.tensors.keys() == state.tensors.keys()
        assert all(torch.equal(again.tensors[name], tensor) for name, tensor in state.tensors.items())


def test_an_unfinished_checkpoint_is_trained_on(old):
    states = [load_state(path.read_bytes()) for path in old.glob("runs/topics/checkpoints/*/*/*.safetensors")]
    assert sum(len(state.epochs) for state in states) >= 12
    assert any(len(state.epochs) < state.config.epochs for state in states)


@pytest.mark.parametrize("method", ["adapter", "embeddings", "fine_tune", "layer_norm", "top_layers"])
def test_a_bundle_predicts_what_it_predicted(old, backbone, method):
    """In the precision of then, on whatever processor."""
    folder = old / "runs/methods/bundles/topics" / method
    predictions = AdapterBundle.load(folder, backbone=backbone).predict(TEXTS, precision="bf16")
    for now, before in zip(predictions, expected(old)[f"predict {folder.relative_to(old)}"], strict=True):
        assert (now.text, now.label) == (before["text"], before["label"])
        assert now.scores == pytest.approx(before["scores"], abs=1e-3)


@pytest.mark.parametrize("task", ["similarity", "animals"])
def test_bundles_of_the_other_kinds_load_and_predict(old, backbone, task):
    bundle = AdapterBundle.load(old / f"runs/kinds/bundles/{task}/adapter", backbone=backbone)
    (prediction,) = bundle.predict([("the match", "goal team match win")])
    assert isinstance(prediction.label, float if task == "similarity" else str)
