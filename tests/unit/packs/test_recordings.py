"""How many passes a search records: sizes of batches are made alike for that.

Without a GPU recordings are stood in for by plain passes; that they compute the same is in `test_kernels`.
"""

import dataclasses
import random
import weakref

import numpy as np
import pytest
from stand_ins import without_kernels
from tiny import MAX_TOKENS, tiny_backbone, toy_spans, toy_task

from pipelines.config import TrainConfig
from pipelines.encoder.tokens import Tokens
from pipelines.packs import recorded
from pipelines.packs.pack import Pack
from pipelines.packs.training import Training
from pipelines.tasks.encoded import encode_task

PLACES = 8
TRIALS = 60

pytestmark = pytest.mark.integration


class Counted:
    """What is recorded, and when it is used again."""

    def __init__(self, monkeypatch):
        self.passes = self.made = self.replayed = self.most_held = 0
        self._recordings = weakref.WeakSet()
        self._cargo = None
        counted = self

        class Recording:
            def __init__(self, model, cargo, sent, hidden, precision, pool):
                self.model, self.precision = model, precision
                counted.made += 1
                counted._recordings.add(self)
                counted.most_held = max(counted.most_held, len(counted._recordings))
                counted.replayed -= 1  # the first is the one that it is recorded for

            def run(self, sent, hidden):
                counted.replayed += 1
                return recorded.encode(self.model, counted._cargo, sent, hidden, self.precision)

        def count(cargo):
            self.passes += 1
            self._cargo = cargo

        without_kernels(monkeypatch, count, recording=Recording)


@pytest.fixture
def counted(monkeypatch):
    return Counted(monkeypatch)


def task_of(classes, mean, *, seed):
    """Texts of random tokens, as long as those of real tasks: most of them short."""
    rng = np.random.default_rng(seed)
    toy = toy_task(rows=160, validation_rows=8)

    def texts(count):
        lengths = np.clip(rng.lognormal(np.log(mean), 0.6, count), 3, MAX_TOKENS).astype(int)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        ids = rng.integers(5, 15, offsets[-1]).astype(toy.train.ids.dtype)
        return Tokens(ids=ids, offsets=offsets, types=None)

    return dataclasses.replace(
        toy,
        labels=tuple("abcdefgh"[:classes]),
        train=texts(160),
        train_targets=np.arange(160) % classes,
        validation=texts(8),
        validation_targets=np.arange(8) % classes,
    )


def search(tasks, trials=TRIALS, places=PLACES):
    """Trials come as soon as there is a place, and go at their end."""
    pack = Pack(tiny_backbone(), pooling="cls", precision="fp32", fused=True)
    draw = random.Random(0)
    waiting = [
        TrainConfig(
            adapter_size=draw.choice([4, 8]),
            learning_rate=1e-3,
            epochs=draw.choice([1, 2, 4]),
            batch_size=draw.choice([8, 16]),
            seed=seed,
        )
        for seed in range(trials)
    ]
    everyone = []
    while waiting or not all(one.finished for one in everyone):
        for one in [one for one in pack.members if one.finished]:
            pack.leave(one)
        while waiting and len(pack.members) < places:
            config = waiting.pop()
            everyone.append(Training(pack.backbone, tasks[config.seed % len(tasks)], config, pack=pack))
        pack.step()
    assert pack.fused
    assert all(one.failure is None for one in everyone)


@pytest.mark.integration
def test_a_search_of_three_tasks_and_sixty_trials_makes_few_recordings(counted):
    """Members join and leave, and have texts of other lengths, other classes and other batches."""
    search([task_of(2, 8, seed=1), task_of(3, 14, seed=2), task_of(7, 30, seed=3)])
    assert counted.made <= TRIALS / 2  # eight sizes as a batch doubles, not some for each trial
    assert counted.replayed >= counted.passes * 3 / 4


@pytest.mark.integration
def test_trials_that_read_every_token_record_as_few(counted):
    """Their batches' longest texts, and the last batches of their epochs, differ place by place."""
    search([encode_task(toy_spans(rows=120, validation_rows=8), tiny_backbone(), 48)], trials=16)
    assert counted.made <= 16
    assert counted.replayed >= counted.passes / 2


def test_of_a_model_no_more_passes_are_recorded_than_there_is_room_for(counted, monkeypatch):
    monkeypatch.setattr(recorded, "MOST_RECORDINGS", 1)
    search([task_of(2, 8, seed=1), task_of(3, 30, seed=2)], trials=4)
    assert counted.most_held == 1
