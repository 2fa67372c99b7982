"""Which configurations lead a search and cannot be told apart: read from what their checkpoints predicted."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from studies import SPACE, add, create, epoch, opened
from tiny import toy_task

from pipelines.checkpoint import dump_state
from pipelines.config import TrainConfig
from pipelines.epochs import PREDICTED, TrainingState
from search.decisions.confirmation import runs_of
from search.job.parts import ConfirmPart
from search.leaders import compare_leaders, find_leaders
from search.record import Leaders
from search.storage import Storage, checkpoint_key

pytestmark = pytest.mark.integration
ROWS = 200
TASK = replace(toy_task(rows=8, validation_rows=ROWS), metrics=("accuracy",))
BUDGET = ConfirmPart(budget=1.0)


@dataclass
class Search:
    """A search whose trials predict given rows well, and a context to read their checkpoints with."""

    study: object
    storage: Storage

    @property
    def context(self):
        return SimpleNamespace(job="job", storage=self.storage, tasks={"task": TASK})

    def add(self, right, *, kept=True, wrong_epoch=False, confirms=None, seed=0, state="complete"):
        """A trial of two epochs.

        Args:
            right: of each row, whether its class is predicted.
            kept: whether its checkpoint has what it predicted.
            wrong_epoch: whether its checkpoint is of another epoch than the record.
        """
        score = float(np.mean(right))
        if confirms is None:
            number = add(self.study, [score / 2, score], state)
        else:
            params, space = self.study.trial(confirms).params, SPACE
            number = self.study.start_trial(params, space.distributions(), seed=seed, confirms=confirms)
            self.study.record_epochs(number, [epoch(1, score / 2), epoch(2, score)])
            self.study.finish_trial(number, state)
        outputs = np.zeros((ROWS, 2), dtype=np.float32)
        outputs[np.arange(ROWS), np.where(right, TASK.validation_targets, 1 - TASK.validation_targets)] = 1
        tensors = {"best.x": torch.zeros(1)} | ({PREDICTED: torch.from_numpy(outputs)} if kept else {})
        found = [epoch(1, 0.99 if wrong_epoch else score / 2), epoch(2, score)]
        config = TrainConfig(adapter_size=8, learning_rate=1e-3, epochs=2)
        data = dump_state(TrainingState(config, tuple(found), tensors))
        self.storage.write(checkpoint_key("job", "task", "adapter", number), data)
        return number

    def find(self, confirm=BUDGET):
        self.said = []
        trials = self.study.trials()
        return find_leaders(
            trials, study=self.study, context=self.context, confirm=confirm, say=self.said.append
        )

    def compare(self, winner):
        return compare_leaders(self.study, self.study.trial(winner), self.context)


@pytest.fixture
def search(tmp_path, monkeypatch):
    monkeypatch.setattr("search.leaders.ray.get", lambda value: value)
    with opened(tmp_path) as record:
        yield Search(create(record), Storage(str(tmp_path)))


def right(share, *, seed=0):
    return np.random.default_rng(seed).permutation(np.arange(ROWS) < ROWS * share)


def test_trials_that_predict_about_as_well_are_run_again_and_those_far_behind_are_not(search):
    for share, seed in ((0.80, 1), (0.83, 2), (0.5, 3)):
        search.add(right(share, seed=seed))
    leaders = search.find()
    assert leaders == Leaders((1, 0), epochs=6, export="nearest")
    (said,) = search.said
    assert "2 of the 3 leading configurations cannot be told apart (trials 1, 0)" in said
    assert "each again with seed 1, in at most 6 epochs" in said


def test_a_clear_winner_stands_alone_and_costs_nothing(search):
    for share, seed in ((0.5, 1), (0.95, 2), (0.6, 3)):
        search.add(right(share, seed=seed))
    assert search.find().trials == (1,)
    assert search.said == []


def test_a_budget_that_does_not_do_for_two_is_said_with_one_that_would(search):
    search.add(right(0.8, seed=1))
    search.add(right(0.8, seed=2))
    assert search.find(ConfirmPart()).epochs == 1
    (said,) = search.said
    assert (
        "two of them again takes 5 epochs, and confirm.budget allows 1: confirm: {budget: 1.25} would" in said
    )


def test_where_the_budget_does_for_some_the_first_are_run_again(search):
    for seed in range(3):
        search.add(right(0.8, seed=seed))
    search.find(ConfirmPart(budget=0.85))
    assert "the first 2 again with seed 1, in at most 5 epochs" in search.said[0]


def test_a_trial_alone_has_nobody_to_be_told_apart_from(search):
    search.add(right(0.8))
    assert search.find().trials == (0,)
    (leader,) = search.compare(0)
    assert (leader.trial, leader.told_apart) == (0, False)


@pytest.mark.parametrize("changes", [{"kept": False}, {"wrong_epoch": True}])
def test_what_did_not_keep_its_predictions_cannot_be_compared(search, changes):
    search.add(right(0.8, seed=1), **changes)
    search.add(right(0.79, seed=2))
    search.add(right(0.78, seed=3))
    assert search.find().trials == (0,)  # the best stays the best, and nothing is run again
    assert search.compare(0) == ()
    assert [leader.trial for leader in search.compare(1)] == [1, 2]


def test_a_lost_checkpoint_leaves_its_trial_out(search):
    for seed in range(3):
        search.add(right(0.8 - seed / 100, seed=seed))
    search.storage.delete(checkpoint_key("job", "task", "adapter", 1))
    assert search.find().trials == (0, 2)


def test_in_the_end_configurations_are_compared_by_all_their_runs(search):
    first, second, far = (
        search.add(right(share, seed=seed)) for share, seed in ((0.84, 1), (0.8, 2), (0.5, 3))
    )
    search.add(right(0.7, seed=4), confirms=first, seed=1)
    winner = search.add(right(0.82, seed=5), confirms=second, seed=1)
    found = search.compare(winner)
    assert [(one.trial, one.seeds, one.told_apart) for one in found] == [
        (second, (0, 1), False),
        (first, (0, 1), False),
        (far, (0,), True),
    ]
    means = [
        np.mean([run.score for run in runs_of(search.study.trials(), search.study.trial(one.trial))])
        for one in found
    ]
    assert [one.mean for one in found] == pytest.approx(means)


def test_a_failed_run_is_no_run(search):
    first = search.add(right(0.84, seed=1))
    search.add(right(0.8, seed=2))
    search.add(right(0.1, seed=4), confirms=first, seed=1, state="failed")
    assert search.compare(first)[0].seeds == (0,)


def test_a_search_that_was_opened_once_more_says_that_its_leaders_have_been_run_again(search):
    first, second = (search.add(right(0.8, seed=seed)) for seed in (1, 2))
    search.find(ConfirmPart(budget=1.25))
    assert "each again with seed 1" in search.said[0]
    for number in (first, second):
        search.add(right(0.8, seed=number), confirms=number, seed=1)
    search.find(ConfirmPart(budget=1.25))
    assert search.said[0].endswith("(trials 0, 1); they have been run again")
