"""The winner trained again on all rows: when it starts, how long it trains, and what it is no part of."""

import pytest
from studies import create, epochs, opened, trial_record

from pipelines.results import EpochResult
from search.agenda import Agenda
from search.decisions.confirmation import Confirm
from search.decisions.halving import peers
from search.decisions.refit import missing_refits, refit_of
from search.decisions.rules import Rules, own_verdict
from search.decisions.selection import pareto_front, pick_best, rank
from search.record import Trial
from search.results import job_results
from search.storage import Storage
from search.workers.assignment import Assignment
from search.workers.reports import TrialReport
from spaces import Space

SPACE = Space.parse({"adapter_size": [8, 64, 256], "epochs": [3, 6]})


@pytest.fixture
def record(tmp_path):
    with opened(tmp_path) as record:
        yield record


def unscored(count):
    return [EpochResult(number, 1 / number, {}, -1 / number, 0.5, 1e9) for number in range(1, count + 1)]


def score(params, number, seed=0):
    """Better with every epoch and size, and no two alike."""
    return 1 - 1 / params["adapter_size"] - 1 / (number + params["epochs"]) - seed / 1000


def make(study, **changes):
    return Agenda(study, SPACE, **{"sampler": "random", "seed": 0, "trials": 4, **changes})


class Refitting:
    """Workers that answer at once; a refit's report its loss alone."""

    def __init__(self, study, *, slots=2, restart=False, most=1000, **changes):
        self.study, self.slots, self.restart, self.changes = study, slots, restart, changes
        self.steps, self.most = 0, most
        study.hold()  # as a driver does
        self.agenda = make(study, **changes)

    def run(self):
        while self.steps < self.most:
            if self.restart:
                self.study.hold()
                self.agenda = make(self.study, **self.changes)
            while len(self.agenda.live) < self.slots and self.agenda.next_trial(ignore) is not None:
                pass
            if not self.agenda.live:
                break
            for number in sorted(self.agenda.live):
                self.train(number)
        return self.study.trials()

    def train(self, number):
        trial = self.study.trials()[number]
        count = len(trial.epochs) + 1
        found = unscored(count)
        if trial.refits is None:
            found = epochs([score(trial.params, one, trial.seed) for one in range(1, count + 1)])
        self.steps += 1
        report = TrialReport(epochs=tuple(found), finished=count == trial.schedule)
        if self.agenda.take(number, report).state != "running":
            self.agenda.put_down(number)


def ignore(study, number):
    pass


GIVEN = {"rules": Rules("halving"), "refit": True}


def test_the_winner_is_trained_again_after_all_else_for_its_best_epochs(record):
    trials = Refitting(create(record), **GIVEN).run()
    best = pick_best(trials)
    last = trials[-1]
    assert [trial.number for trial in trials if trial.refits is not None] == [last.number]
    assert last.refits == best.number
    assert (last.params, last.seed) == (best.params, best.seed)
    assert last.state == "complete"
    assert len(last.epochs) == last.length == last.schedule == best.best_epoch
    assert last.rungs == ()
    assert not make(record.studies("job")[0], **GIVEN).is_open


def test_a_refit_has_no_score_and_is_no_part_of_what_was_searched(record):
    trials = Refitting(create(record), **GIVEN).run()
    refit = trials[-1]
    assert (refit.score, refit.best_epoch, refit.validation("accuracy")) == (None, None, None)
    assert refit not in [*rank(trials), *pareto_front(trials)]
    assert refit not in peers(trials, refit.schedule, 1)
    assert refit_of(trials, refit.refits) == refit


def test_results_count_the_trials_of_the_search_alone(record, tmp_path):
    study = create(record)
    trials = Refitting(study, **GIVEN).run()
    (entry,) = job_results([study], Storage(str(tmp_path)))["tasks"]
    assert sum(entry["trials"].values()) == len(trials) - 1 == 4
    assert entry["best"]["trial"] == trials[-1].refits


@pytest.mark.integration
def test_a_driver_that_dies_after_every_step_refits_the_same(record):
    given = {**GIVEN, "slots": 1, "confirm": Confirm(1, 2)}
    steady = Refitting(create(record, "job/steady/adapter"), **given).run()
    dying = Refitting(create(record, "job/dying/adapter"), restart=True, **given).run()
    essence = [[(t.params, t.state, len(t.epochs), t.seed, t.refits) for t in own] for own in (steady, dying)]
    assert essence[0] == essence[1]


@pytest.mark.integration
def test_every_seed_of_a_confirmed_winner_is_trained_again(record):
    trials = Refitting(create(record), **GIVEN, confirm=Confirm(1, 3)).run()
    best = pick_best(trials)
    again = [trial for trial in trials if trial.refits is not None]
    assert {trial.seed for trial in again} == {0, 1, 2}
    assert best.number in {trial.refits for trial in again}
    assert all(trials[trial.refits].best_epoch == trial.length for trial in again)


def test_a_stopped_search_still_refits_what_it_has(record):
    study = create(record)
    workers = Refitting(study, **GIVEN, most=6)
    workers.run()
    workers.agenda.stop("budget")
    for number in [*workers.agenda.live]:
        workers.train(number)
    workers.most = 100
    trials = workers.run()
    assert refit_of(trials, pick_best(trials).number) is not None


def test_a_failed_refit_is_tried_again_when_it_is_asked_for(record):
    study = create(record)
    agenda: Agenda = Refitting(study, **GIVEN, most=0).agenda
    number = agenda.next_trial(ignore)
    agenda.take(number, TrialReport(epochs=tuple(epochs([0.5]))))
    agenda.put_down(number)
    agenda.stop("enough")
    refit = agenda.next_trial(ignore)
    assert study.trials()[refit].refits == pick_best(study.trials()).number
    agenda.take(refit, TrialReport(failure="OutOfMemoryError: no room"))
    agenda.put_down(refit)
    assert agenda.next_trial(ignore) is None
    assert not agenda.is_open
    assert study.reopen()
    study.stop("enough")
    again = make(study, **GIVEN)
    number = again.next_trial(ignore)
    assert study.trials()[number].refits == study.trials()[refit].refits
    assert number != refit


def test_nothing_is_refitted_where_no_trial_ended_well():
    assert missing_refits([trial_record(0, [], 3, state="failed")]) == []


def test_a_refit_ends_after_its_epochs_whatever_its_configuration_says():
    refit = Trial(4, "running", {"epochs": 10}, tuple(unscored(2)), refits=1, length=2)
    assert own_verdict(refit, Rules()).state == "complete"
    assert own_verdict(refit, Rules(patience=1)).reason is None


def test_a_worker_is_told_to_train_on_all_rows():
    refit = Trial(4, "running", {"epochs": 10}, refits=1, length=2)
    assert Assignment.of(refit, "task").refit
    assert not Assignment.of(Trial(1, "running", {"epochs": 10}), "task").refit
