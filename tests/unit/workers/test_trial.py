"""A worker, from one trial to the next."""

import gc
import tempfile
import weakref
from types import SimpleNamespace

import pytest

from search.storage import Storage
from search.workers import trial as module
from search.workers.assignment import Assignment
from search.workers.context import open_cache
from search.workers.trial import WorkerTrial


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
    worker = WorkerTrial.__new__(WorkerTrial)  # without Tune, which would make folders
    gc.disable()
    worker.setup(asked(0), context=object())
    yield worker
    gc.enable()
    gc.unfreeze()


def test_a_training_is_gone_when_the_next_trial_begins(worker):
    worker._training = Knot()
    training = weakref.ref(worker._training)
    worker.reset_config(asked(1))
    assert training() is None


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
