"""A worker, from one trial to the next."""

import gc
import tempfile
import weakref
from types import SimpleNamespace

import pytest

from pipelines.method import METHODS
from search.storage import Storage
from search.workers import trial as module
from search.workers.assignment import Assignment
from search.workers.context import open_cache
from search.workers.trial import WorkerTrial

CONTEXT = SimpleNamespace(
    fused=True,
    tasks={"task": SimpleNamespace(folds=None)},
    pooling="cls",
    precision="bf16",
    vectors_for=lambda _: {},
)


class Knot:
    """Keeps itself, as a training and its pack do."""

    def __init__(self):
        self.itself = self


def asked(number):
    """What Tune gives to a worker."""
    return Assignment("task", "adapter", number, seed=0, params={}).to_tune()


@pytest.fixture
def worker(monkeypatch):
    monkeypatch.setattr(module, "open_backbone", lambda _: None)
    monkeypatch.setattr(module, "open_cache", lambda _: None)
    monkeypatch.setattr(module, "keep_kernels", lambda context: context.fused)
    worker = WorkerTrial.__new__(WorkerTrial)  # without Tune, which would make folders
    gc.disable()
    worker.setup(asked(0), context=CONTEXT)
    yield worker
    gc.enable()
    gc.unfreeze()


def test_a_training_is_gone_when_the_next_trial_begins(worker):
    worker._training = Knot()
    training = weakref.ref(worker._training)
    worker.reset_config(asked(1))
    assert training() is None


@pytest.mark.parametrize("fused", [True, False])
def test_a_trial_goes_by_kernels_where_its_worker_keeps_some(worker, monkeypatch, fused):
    made = {}
    monkeypatch.setattr(module.ray, "get", lambda reference: reference)
    monkeypatch.setattr(module, "read_state", lambda *_: None)
    monkeypatch.setattr(
        type(METHODS["adapter"]), "make_training", lambda *_, **arguments: made.update(arguments)
    )
    monkeypatch.setattr(CONTEXT, "fused", fused)
    worker.setup(
        Assignment("task", "adapter", 0, seed=0, params={"learning_rate": 1e-3, "epochs": 1}).to_tune(),
        context=CONTEXT,
    )
    worker._start()
    assert made["fused"] is fused


def test_a_worker_whose_cache_folder_was_planted_goes_without(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    victim = tmp_path / "victim"
    victim.mkdir()
    context = SimpleNamespace(cache=1.0, storage=Storage("s3://bucket/runs"))
    folder = open_cache(context).folder
    folder.rename(tmp_path / "before")
    folder.symlink_to(victim)
    assert open_cache(context) is None
    assert list(victim.iterdir()) == []
