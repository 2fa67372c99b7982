"""The winner trained again on all rows: when it starts, how long it trains, and what it is no part of."""

import pytest
from studies import add, create, epochs, opened, trial_record

from pipelines.results import EpochResult
from search.agenda import Agenda
from search.decisions.confirmation import Confirm, leading, next_round, pick_winner, runs_of
from search.decisions.halving import peers
from search.decisions.refit import missing_refits, refit_of
from search.decisions.rules import Rules, own_verdict
from search.decisions.selection import pareto_front, pick_best, rank
from search.record import Leaders, Trial
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


def all_lead(trials):
    """Nothing tells the leading trials apart, and there is enough to run them all again."""
    return Leaders(tuple(trial.number for trial in leading(trials)), epochs=1000)


def test_leaders_are_run_again_when_the_search_has_ended_and_then_the_winner_is_refitted(record):
    trials = Refitting(create(record), **GIVEN, find_leaders=all_lead).run()
    again = [trial for trial in trials if trial.confirms is not None]
    study = record.studies("job")[0]
    assert {trial.confirms for trial in again} == set(study.leaders.trials)
    assert min(trial.number for trial in again) == sum(trial.searched for trial in trials)
    assert next_round(trials, study.leaders)[1] == []
    best = pick_winner(trials, study.leaders)
    assert {trial.refits for trial in trials} - {None} == {run.number for run in runs_of(trials, best)}
    assert best.number in {trial.refits for trial in trials}
    agenda = make(study, **GIVEN, find_leaders=all_lead)
    assert not agenda.is_open


def test_who_leads_is_asked_once_and_not_before_the_search_has_ended(record):
    asked = []

    def find(trials):
        assert not any(trial.state in ("running", "paused") for trial in trials)
        asked.append(len(trials))
        return all_lead(trials)

    Refitting(create(record), rules=Rules("halving"), find_leaders=find, restart=True).run()
    assert asked == [4]


def test_a_search_is_open_until_its_leaders_are_known(record):
    study = create(record)
    Refitting(study, rules=Rules("none")).run()
    assert not make(study).is_open
    agenda = make(study, find_leaders=lambda trials: Leaders((pick_best(trials).number,)))
    assert agenda.is_open
    assert agenda.next_trial(ignore) is None
    assert not agenda.is_open


def test_where_no_trial_ended_well_nobody_leads(record):
    study = create(record)
    agenda = Refitting(study, most=0, find_leaders=lambda _: pytest.fail("there is nobody")).agenda
    for _ in range(3):
        number = agenda.next_trial(ignore)
        agenda.take(number, TrialReport(failure="OutOfMemoryError: no room"))
        agenda.put_down(number)
    assert agenda.next_trial(ignore) is None
    assert not agenda.is_open


def test_a_search_that_was_stopped_has_its_leaders_run_again(record):
    study = create(record)
    workers = Refitting(study, rules=Rules("none"), find_leaders=all_lead, most=9)
    workers.run()
    workers.agenda.stop("enough")
    workers.most = 1000
    trials = workers.run()
    assert sum(trial.confirms is not None for trial in trials) >= 2


def test_failed_trials_that_are_tried_again_may_lead_so_that_leaders_are_looked_for_anew(record):
    study = create(record)
    add(study, [0.5], "failed", reason="OutOfMemoryError: no room")
    add(study, [0.5])
    study.note_leaders(Leaders((1,)))
    study.stop("enough")
    assert study.reopen()
    assert study.leaders is None


@pytest.mark.integration
@pytest.mark.parametrize("slots", [1, 3])
def test_a_driver_that_dies_after_every_step_confirms_the_same_leaders(record, slots):
    given = {**GIVEN, "slots": slots, "find_leaders": all_lead}
    steady = Refitting(create(record, "job/steady/adapter"), **given).run()
    dying = Refitting(create(record, "job/dying/adapter"), restart=True, **given).run()
    if slots == 1:
        first, second = (
            [(t.params, t.seed, t.confirms, t.refits, len(t.epochs)) for t in own] for own in (steady, dying)
        )
        assert first == second
    for study in record.studies("job"):
        trials, leaders = study.trials(), study.leaders
        assert next_round(trials, leaders)[1] == []
        assert refit_of(trials, pick_winner(trials, leaders).number) is not None


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
