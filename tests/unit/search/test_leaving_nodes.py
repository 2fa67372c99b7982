"""Trials on a node that is about to be taken away: moved after an epoch, and without a retry of theirs."""

from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler
from studies import SPACE, create, epochs, opened

import search.searcher
from search.agenda import Agenda
from search.searcher import StudyScheduler, StudySearcher
from search.workers.reports import REPORT, TrialReport
from search.workers.trial import WORKER_RESTARTS


@pytest.fixture
def killed(monkeypatch):
    """What was killed, in order: workers, and hosts by their names with whether they come back."""
    seen = []

    def kill(actor, *, no_restart=True):
        seen.append(actor if no_restart else f"{actor}, to come back")

    monkeypatch.setattr(search.searcher.ray, "kill", kill)
    monkeypatch.setattr(search.searcher.ray, "get_actor", lambda name: name)
    return seen


@pytest.fixture
def start(tmp_path, killed):
    """Start one or more trials of a study, on a cluster of which the node "spot" is leaving."""
    with opened(tmp_path) as record:

        def begin(*, trials=1, host=None):
            study = create(record)
            searcher = StudySearcher(
                [Agenda(study, SPACE, sampler="random", seed=0, trials=trials)],
                slots=lambda: trials,
                on_change=lambda *_: None,
                pick_host=(lambda _: host) if host else None,
            )
            scheduler = StudyScheduler(searcher, lambda *_: None, leaving=lambda: {"spot"})
            for number in range(trials):
                searcher.suggest(f"id{number}")
            return study, scheduler

        yield begin


def report_from(scheduler, node, number=0, **more):
    """An epoch of a trial, from a worker on a node; returns Tune's trial and what Tune is told."""
    trial = SimpleNamespace(
        trial_id=f"id{number}",
        max_failures=WORKER_RESTARTS,
        temporary_state=SimpleNamespace(ray_actor=f"worker {number}"),
    )
    report = TrialReport(epochs=epochs([0.5]), node_id=node, **more).dumps()
    return trial, scheduler.on_trial_result(None, trial, {REPORT: report})


def test_a_trial_moves_after_its_epoch_is_recorded_and_keeps_its_retries(start, killed):
    study, scheduler = start()
    trial, answer = report_from(scheduler, "spot")
    assert answer == TrialScheduler.CONTINUE
    assert len(study.trials()[0].epochs) == 1
    assert killed == ["worker 0"]
    assert trial.max_failures == WORKER_RESTARTS + 1


def test_trials_on_other_nodes_stay(start, killed):
    _, scheduler = start()
    trial, _ = report_from(scheduler, "another")
    assert killed == []
    assert trial.max_failures == WORKER_RESTARTS


def test_a_trial_that_has_ended_is_not_moved(start, killed):
    _, scheduler = start()
    _, answer = report_from(scheduler, "spot", finished=True)
    assert answer == TrialScheduler.STOP
    assert killed == []


def test_a_host_of_packs_moves_once_with_all_its_trials(start, killed):
    """Others of its trials may report from the old node after it was told to move."""
    _, scheduler = start(trials=3, host="host")
    for number in range(3):
        trial, _ = report_from(scheduler, "spot", number)
        assert trial.max_failures == WORKER_RESTARTS  # its proxy lives on
    assert killed == ["host, to come back"]
