"""What a study does from its first trial to its end, with workers that answer at once."""

import math

import pytest
from studies import create, epochs, opened

from search.agenda import Agenda
from search.decisions.budget import Budget
from search.decisions.confirmation import Confirm, missing_runs, runs_of
from search.decisions.rules import Rules
from search.decisions.selection import pick_best
from search.workers.reports import TrialReport
from spaces import Space

SPACE = Space.parse({"adapter_size": [8, 64, 256], "learning_rate": [1e-4, 1e-3, 1e-2], "epochs": [3, 10]})
SHORT = Space.parse({**SPACE.to_dict(), "epochs": [3, 6]})  # the same rungs, less to write
HALVING = Rules("halving")


@pytest.fixture
def record(tmp_path):
    with opened(tmp_path) as record:
        yield record


def score(params, epoch, seed=0):
    """Best at 1e-3 and 256, better with every epoch, and no two alike."""
    return (
        1
        - abs(math.log10(params["learning_rate"]) + 3) / 5
        - 1 / params["adapter_size"]
        - 1 / (epoch + params["epochs"])
        - seed / 1000
    )


def make(study, *, space=SPACE, **changes):
    given = {"sampler": "tpe", "seed": 0, "trials": 12, "rules": HALVING, **changes}
    return Agenda(study, space, **given)


class Workers:
    """Train what a search gives them, an epoch at a time."""

    def __init__(self, study, *, slots=2, restart=False, most=10_000, **changes):
        self.study, self.slots, self.restart, self.changes = study, slots, restart, changes
        self.steps, self.most = 0, most
        study.hold()  # as a driver does
        self.agenda = make(study, **changes)
        self.told = []

    def note(self, study, number):
        self.told.append(number)

    def run(self):
        while self.steps < self.most:
            if self.restart:
                before = self.study.trials()
                self.study.hold()
                assert self.study.trials() == before
                self.agenda = make(self.study, **self.changes)
            while len(self.agenda.live) < self.slots and self.agenda.next_trial(self.note) is not None:
                pass
            if not self.agenda.live:
                return self.study.trials()
            for number in sorted(self.agenda.live):
                self.train(number)
        return self.study.trials()

    def train(self, number):
        trial = self.study.trials()[number]
        count = len(trial.epochs) + 1
        scores = [score(trial.params, epoch, trial.seed) for epoch in range(1, count + 1)]
        report = TrialReport(epochs=epochs(scores), finished=count == trial.schedule)
        self.steps += 1
        if self.agenda.take(number, report).state != "running":
            self.agenda.put_down(number)


def essence(trials):
    return [(trial.params, trial.state, len(trial.epochs), trial.reason, trial.seed) for trial in trials]


@pytest.mark.integration
def test_halving_ends_every_trial_and_spends_less_than_half_of_what_all_would(record):
    workers = Workers(create(record))
    trials = workers.run()
    assert len(trials) == 12
    assert {trial.state for trial in trials} == {"complete", "pruned"}
    assert workers.steps == sum(len(trial.epochs) for trial in trials)
    assert workers.steps < sum(trial.schedule for trial in trials) / 2
    assert not workers.agenda.is_open


@pytest.mark.integration
def test_a_pruned_trial_stands_at_a_rung_and_says_whom_it_was_compared_with(record):
    pruned = [trial for trial in Workers(create(record)).run() if trial.state == "pruned"]
    assert pruned
    for trial in pruned:
        assert len(trial.epochs) in trial.rungs
        assert f"stopped at rung {len(trial.epochs)}: rank " in trial.reason
        assert f"trials of {trial.schedule} epochs" in trial.reason


@pytest.mark.integration
@pytest.mark.parametrize("scheduler", ["halving", "median", "none"])
def test_a_driver_that_dies_after_every_step_decides_the_same(record, scheduler):
    given = {"slots": 1, "space": SHORT, "rules": Rules(scheduler, patience=4), "confirm": Confirm(2, 2)}
    steady = Workers(create(record, "job/steady/adapter"), **given)
    dying = Workers(create(record, "job/dying/adapter"), restart=True, **given)
    assert essence(dying.run()) == essence(steady.run())
    assert dying.steps == steady.steps


def test_paused_trials_are_still_paused_after_a_restart_and_are_not_run_on(record):
    workers = Workers(create(record), most=5)
    before = workers.run()
    paused = [trial.number for trial in before if trial.state == "paused"]
    assert paused
    agenda = make(workers.study)
    assert not set(paused) & set(agenda.unfinished)
    assert [trial.state for trial in workers.study.trials()] == [trial.state for trial in before]


def test_a_trial_that_tune_has_not_put_down_yet_is_not_promoted(record):
    # Tune tells that a stretch has ended some steps after it gave its last result; a second stretch of the
    # same trial beside it would end the search when the first is put down.
    study = create(record)
    agenda = make(study, trials=1)
    number = agenda.next_trial(lambda *_: None)
    assert agenda.take(number, TrialReport(epochs=epochs([0.5]))).state == "paused"
    assert agenda.next_trial(lambda *_: None) is None
    assert study.trials()[number].state == "paused"
    agenda.put_down(number)
    assert agenda.next_trial(lambda *_: None) == number


def test_a_search_of_fewer_trials_than_a_rung_compares_still_trains_its_best_to_the_end(record):
    trials = Workers(create(record), trials=2).run()
    assert [trial.state for trial in trials].count("complete") >= 1


@pytest.mark.integration
def test_the_median_rule_stops_what_is_below_it(record):
    trials = Workers(create(record), space=SHORT, rules=Rules("median"), trials=18).run()
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert pruned
    assert all("is below the median" in trial.reason for trial in pruned)
    assert pick_best(trials).state == "complete"


def test_patience_completes_a_trial_with_its_best(record):
    study = create(record)
    agenda = make(study, rules=Rules(patience=2), trials=1)
    number = agenda.next_trial(lambda *_: None)
    for count in range(1, 5):
        found = agenda.take(number, TrialReport(epochs=epochs([0.5, 0.9, 0.8, 0.9][:count])))
        assert found.state == ("complete" if count == 4 else "running")
    (trial,) = study.trials()
    assert (trial.state, trial.score, trial.reason) == ("complete", 0.9, "no better score in 2 epochs")


def test_a_conclusion_that_a_dead_driver_did_not_write_is_drawn_by_the_next(record):
    study = create(record)
    number = make(study, trials=1).next_trial(lambda *_: None)
    schedule = study.trials()[number].schedule
    study.promote_trial(number, 9)
    study.record_epochs(number, epochs([0.5] * schedule))
    agenda = make(study, trials=1)
    assert study.trials()[number].state == "complete"
    assert not agenda.is_open


def test_a_stopped_search_puts_its_trials_down_at_their_next_epoch(record):
    workers = Workers(create(record), most=6)
    workers.run()
    workers.agenda.stop("the target of 0.9 is reached")
    workers.most = 10_000
    trials = workers.run()
    assert {trial.state for trial in trials} <= {"complete", "pruned"}
    assert any(trial.reason == "the target of 0.9 is reached" for trial in trials)
    assert workers.steps <= 6 + 2
    assert not make(workers.study).is_open


def test_the_target_is_a_studys_own_and_minutes_are_the_jobs():
    budget = Budget(minutes=2, training_minutes=5, target=0.9)
    assert budget.reached(None, "accuracy") is None
    assert budget.reached(0.89, "accuracy") is None
    assert "target of 0.9" in budget.reached(0.9, "accuracy")
    assert budget.used_up(seconds=119, training_seconds=299) is None
    assert "2 minutes" in budget.used_up(seconds=120, training_seconds=0)
    assert "5 training minutes" in budget.used_up(seconds=0, training_seconds=300)
    assert Budget().used_up(seconds=1e9, training_seconds=1e9) is None


def test_the_target_of_a_metric_of_which_less_is_better_is_a_most():
    budget = Budget(target=0.3)
    assert budget.reached(-0.31, "log_loss") is None
    assert "target of 0.3 is reached" in budget.reached(-0.29, "log_loss")


def test_first_trials_that_all_fail_alike_end_the_search_and_say_why(record):
    study = create(record)
    agenda = make(study)
    for _ in range(3):
        number = agenda.next_trial(lambda *_: None)
        agenda.take(number, TrialReport(failure="OutOfMemoryError: no room"))
        agenda.put_down(number)
    assert agenda.next_trial(lambda *_: None) is None
    assert not agenda.is_open
    assert study.stopped == ("the first 3 trials all failed in the same way: OutOfMemoryError: no room")


@pytest.mark.parametrize("third", ["ValueError: other", None])
def test_different_failures_or_an_epoch_do_not_end_the_search(record, third):
    agenda = make(create(record))
    for failure in ("OutOfMemoryError: no room", "OutOfMemoryError: no room", third):
        number = agenda.next_trial(lambda *_: None)
        agenda.take(number, TrialReport(epochs=[] if failure else epochs([0.5]), failure=failure))
        agenda.put_down(number)
    assert agenda.next_trial(lambda *_: None) is not None


@pytest.mark.integration
def test_the_best_configurations_are_confirmed_with_further_seeds(record):
    workers = Workers(create(record), space=SHORT, confirm=Confirm(top=2, seeds=3))
    trials = workers.run()
    searched = [trial for trial in trials if trial.confirms is None]
    confirmed = [trial for trial in trials if trial.confirms is not None]
    best = sorted(searched, key=lambda trial: -trial.score)[:2]
    assert len(searched) == 12
    for one in best:
        seeds = {trial.seed for trial in confirmed if trial.confirms == one.number}
        assert seeds == ({1, 2} if one.state == "complete" else {0, 1, 2})
    assert {trial.confirms for trial in confirmed} == {trial.number for trial in best}
    assert all(trial.state == "complete" and len(trial.epochs) == trial.schedule for trial in confirmed)
    assert all(trial.params == trials[trial.confirms].params for trial in confirmed)
    assert missing_runs(trials, Confirm(top=2, seeds=3)) == []
    assert [run.seed for run in runs_of(trials, best[0])] == [0, 1, 2]
