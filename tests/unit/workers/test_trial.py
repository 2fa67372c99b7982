"""A worker, from one trial to the next."""

import gc
import weakref

import pytest

from search.workers import trial as module
from search.workers.trial import AdapterTrial


class Knot:
    """Keeps itself, as a training and its pack do."""

    def __init__(self):
        self.itself = self


@pytest.fixture
def worker(monkeypatch):
    monkeypatch.setattr(module, "open_backbone", lambda _: None)
    monkeypatch.setattr(module, "open_cache", lambda _: None)
    worker = AdapterTrial.__new__(AdapterTrial)  # without Tune, which would make folders
    gc.disable()
    worker.setup({"number": 0}, context=object())
    yield worker
    gc.enable()
    gc.unfreeze()


def test_a_training_is_gone_when_the_next_trial_begins(worker):
    worker._training = Knot()
    training = weakref.ref(worker._training)
    worker.reset_config({"number": 1})
    assert training() is None
