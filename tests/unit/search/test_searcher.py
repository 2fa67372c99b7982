"""What Ray Tune is told, with Tune's calls made by hand, in Tune's order."""

import itertools
import pickle
from dataclasses import replace
from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from studies import SPACE, add, create, epochs, opened, start

from search.agenda import Agenda
from search.errors import StorageError
from search.searcher import StudyScheduler, StudySearcher
from search.workers.assignment import Assignment
from search.workers.reports import REPORT, TrialReport
from spaces import Space

LONG = Space.parse({"adapter_size": [8, 64, 256], "learning_rate": [1e-4, 1e-3], "epochs": 9})


@pytest.fixture
def record(tmp_path):
    with opened(tmp_path) as record:
        yield record


class Tune:
    """Tune's part of the conversation."""

    def __init__(self, *searches, slots=100):
        self.told = []
        self.searcher = StudySearcher(searches, slots=lambda: slots, on_change=self.listen)
        self.scheduler = StudyScheduler(self.searcher, self.listen)
        self._ids = (f"id{number}" for number in itertools.count())

    def listen(self, study, number):
        self.told.append((study.name, number, study.trials()[number].state))

    def ask(self):
        """A new Tune trial: its id, and what the searcher says."""
        trial_id = next(self._ids)
        answer = self.searcher.suggest(trial_id)
        return trial_id, Assignment.from_tune(answer) if isinstance(answer, dict) else answer

    def report(self, trial_id, scores, **more):
        """A result that does not say done."""
        return self.scheduler.on_trial_result(
            None, SimpleNamespace(trial_id=trial_id), result(scores, **more)
        )

    def end(self, trial_id, scores, **more):
        """A result that says done: Tune skips on_trial_result."""
        last = result(scores, **more)
        self.scheduler.on_trial_complete(None, SimpleNamespace(trial_id=trial_id), last)
        self.searcher.on_trial_complete(trial_id, last)

    def lose(self, trial_id, error_file=None):
        """The worker died once too often."""
        self.scheduler.on_trial_error(None, SimpleNamespace(trial_id=trial_id, error_file=error_file))
        self.searcher.on_trial_complete(trial_id, error=True)

    def put_down(self, trial_id, last=None):
        """Tune ends with the trial still running, and may or may not repeat its last result."""
        self.scheduler.on_trial_remove(None, SimpleNamespace(trial_id=trial_id))
        self.searcher.on_trial_complete(trial_id, last)


def pending(trial_id):
    """A trial of Tune's for which no worker has come."""
    state = SimpleNamespace(ray_actor=None)
    return SimpleNamespace(trial_id=trial_id, status=Trial.PENDING, temporary_state=state)


def result(scores, **more):
    report = TrialReport(epochs=epochs(scores), trained_parameters=100, node="there", **more)
    return {REPORT: report.dumps(), "training_iteration": 1}


def agenda(study, trials=6, space=SPACE):
    return Agenda(study, space, sampler="random", seed=0, trials=trials)


def run_to_the_end(tune):
    """Every trial ends well at once; what each was."""
    assignments = []
    while True:
        trial_id, assignment = tune.ask()
        if not isinstance(assignment, Assignment):
            assert assignment == Searcher.FINISHED
            return assignments
        assignments.append(assignment)
        tune.end(trial_id, [0.5], finished=True)


def test_a_suggestion_is_what_a_worker_needs_and_is_in_the_study(record):
    study = create(record)
    _, assignment = Tune(agenda(study)).ask()
    (trial,) = study.trials()
    assert assignment == Assignment("task", "adapter", 0, seed=0, params=trial.params, known=0)
    assert SPACE.contains(assignment.params)
    assert trial.state == "running"


def test_a_study_has_exactly_its_trials(record):
    study = create(record)
    assert [assignment.number for assignment in run_to_the_end(Tune(agenda(study, trials=5)))] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert [trial.state for trial in study.trials()] == ["complete"] * 5


def test_trials_of_earlier_runs_count(record):
    study = create(record)
    add(study, [0.5])
    add(study, [], "failed", reason="OutOfMemoryError: no room")
    assert [assignment.number for assignment in run_to_the_end(Tune(agenda(study, trials=4)))] == [2, 3]


def test_a_finished_study_is_not_searched_on(record):
    study = create(record)
    add(study, [0.5])
    one = agenda(study, trials=1)
    assert not one.is_open
    assert Tune(one).ask()[1] == Searcher.FINISHED


def test_unfinished_trials_come_first_with_their_own_numbers(record):
    study = create(record)
    add(study, [0.5])
    unfinished = [add(study, [0.3], "running"), start(study)]
    add(study, [0.5])
    before = study.trials()
    assignments = run_to_the_end(Tune(agenda(study, trials=6)))
    assert [assignment.number for assignment in assignments] == [*unfinished, 4, 5]
    for assignment in assignments[:2]:
        assert assignment.params == before[assignment.number].params


def test_unfinished_trials_of_any_study_come_before_new_ones_of_all(record):
    busy, fresh = create(record, "job/busy/adapter"), create(record, "job/fresh/adapter", position=1)
    add(busy, [0.5])
    add(busy, [0.5])
    number = start(busy)
    _, first = Tune(agenda(busy), agenda(fresh)).ask()
    assert (first.task, first.number) == ("busy", number)


def test_studies_are_served_in_turn(record):
    tasks = ["a", "b", "c"]
    studies = [create(record, f"job/{task}/adapter", position=place) for place, task in enumerate(tasks)]
    tune = Tune(*(agenda(study, trials=2) for study in studies))
    assert [tune.ask()[1].task for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


@pytest.mark.integration
def test_the_study_with_the_fewest_trials_is_served_first(record):
    ahead, behind = create(record, "job/ahead/adapter"), create(record, "job/behind/adapter", position=1)
    for _ in range(3):
        add(ahead, [0.5])
    tune = Tune(agenda(ahead, trials=5), agenda(behind, trials=5))
    served = [assignment.task for assignment in run_to_the_end(tune)]
    assert served == ["behind", "behind", "behind", "ahead", "behind", "ahead", "behind"]


def test_no_more_trials_live_than_there_are_slots(record):
    tune = Tune(agenda(create(record), trials=6), slots=2)
    (first, _), (_, _) = tune.ask(), tune.ask()
    assert tune.ask()[1] is None
    tune.report(first, [0.5])
    assert tune.ask()[1] is None
    tune.end(first, [0.5], finished=True)
    assert isinstance(tune.ask()[1], Assignment)
    assert tune.ask()[1] is None


def test_slots_are_asked_for_each_time(record):
    slots = iter([1, 1, 2])
    searcher = StudySearcher([agenda(create(record))], slots=lambda: next(slots), on_change=lambda *_: None)
    assert isinstance(searcher.suggest("a"), dict)
    assert searcher.suggest("b") is None
    assert isinstance(searcher.suggest("b"), dict)


def test_the_search_is_over_only_when_nothing_is_live(record):
    tune = Tune(agenda(create(record), trials=2))
    (first, _), (second, _) = tune.ask(), tune.ask()
    assert tune.ask()[1] is None
    tune.end(first, [0.5], finished=True)
    assert tune.ask()[1] is None
    tune.lose(second)
    assert tune.ask()[1] == Searcher.FINISHED


@pytest.mark.integration
def test_an_exhausted_space_ends_its_study_early_and_says_so(record):
    space = Space.parse({"learning_rate": [1e-4, 1e-3], "epochs": 2})
    study, other = create(record, "job/a/adapter"), create(record, "job/b/adapter", position=1)
    small, large = agenda(study, trials=10, space=space), agenda(other, trials=4)
    run_to_the_end(Tune(small, large))
    assert len(study.trials()) == space.size
    assert study.exhausted is True
    assert len(other.trials()) == 4
    assert not other.exhausted
    assert not small.is_open
    assert not agenda(study, trials=10, space=space).is_open  # after a restart neither


def test_a_search_is_open_until_its_last_trial_has_ended(record):
    study = create(record)
    one = agenda(study, trials=2)
    tune = Tune(one)
    (first, _), (second, _) = tune.ask(), tune.ask()
    assert one.is_open
    tune.end(first, [0.5], finished=True)
    assert one.is_open
    tune.end(second, [0.5], finished=True)
    assert not one.is_open


def test_every_result_is_in_the_study_before_tune_goes_on(record):
    study = create(record)
    tune = Tune(agenda(study, space=LONG))
    trial_id, _ = tune.ask()
    for scores in ([0.5], [0.5, 0.7]):
        assert tune.report(trial_id, scores) == TrialScheduler.CONTINUE
        assert [epoch.score for epoch in study.trials()[0].epochs] == scores
        assert study.trials()[0].state == "running"
    assert (study.trials()[0].trained_parameters, study.trials()[0].node) == (100, "there")


def test_the_result_that_says_done_is_recorded_too(record):
    study = create(record)
    tune = Tune(agenda(study))
    trial_id, _ = tune.ask()
    tune.report(trial_id, [0.5])
    tune.end(trial_id, [0.5, 0.9], finished=True)
    (trial,) = study.trials()
    assert (trial.state, trial.score, len(trial.epochs)) == ("complete", 0.9, 2)


def test_epochs_that_a_dead_driver_did_not_record_are_added(record):
    study = create(record)
    add(study, [0.5], "running")
    tune = Tune(agenda(study))
    trial_id, _ = tune.ask()
    tune.report(trial_id, [0.5, 0.6, 0.7])
    assert [epoch.score for epoch in study.trials()[0].epochs] == [0.5, 0.6, 0.7]


def test_a_trial_that_failed_has_the_reason_that_its_worker_gave(record):
    study = create(record)
    tune = Tune(agenda(study))
    trial_id, _ = tune.ask()
    tune.end(trial_id, [0.5], failure="TrialDiverged: loss is nan")
    (trial,) = study.trials()
    assert (trial.state, trial.reason, trial.score) == ("failed", "TrialDiverged: loss is nan", None)


def test_a_trial_whose_worker_died_is_failed_and_says_so(record):
    study = create(record)
    tune = Tune(agenda(study))
    trial_id, _ = tune.ask()
    tune.report(trial_id, [0.5])
    tune.lose(trial_id)
    (trial,) = study.trials()
    assert trial.state == "failed"
    assert "worker died" in trial.reason


@pytest.mark.parametrize(
    ("noted", "reason"),
    [
        ("The actor died unexpectedly.\n  class_name: Trial\n", "The actor died unexpectedly."),
        ("ray::Trial.train() (pid=1)\n  File …\nRuntimeError: no backbone\n", "RuntimeError: no backbone"),
        ("", "no reason known"),
    ],
)
def test_the_reason_of_a_lost_worker_is_what_ray_said_last(record, tmp_path, noted, reason):
    study = create(record)
    tune = Tune(agenda(study))
    trial_id, _ = tune.ask()
    error_file = tmp_path / "error.txt"
    error_file.write_text(f"Failure # 1 (at noon)\nanother\nFailure # 2 (at one)\n{noted}")
    tune.lose(trial_id, error_file)
    assert study.trials()[0].reason == f"its worker died, and again after each restart: {reason}"


def test_a_trial_that_its_storage_blocks_is_no_failure_and_nothing_is_recorded(record):
    study = create(record)
    tune = Tune(agenda(study))
    trial_id, _ = tune.ask()
    with pytest.raises(StorageError, match="cannot be written"):
        tune.report(trial_id, [0.5], blocked="storage /runs cannot be written (No space left on device)")
    assert isinstance(tune.searcher.problem, StorageError)  # Tune itself would pass on a text
    (trial,) = study.trials()
    assert (trial.state, trial.epochs) == ("running", ())


@pytest.mark.parametrize("last", [None, {"training_iteration": 1}, result([0.5])])
def test_a_trial_that_tune_puts_down_stays_unfinished(record, last):
    study = create(record)
    tune = Tune(agenda(study, space=LONG))
    trial_id, config = tune.ask()
    tune.report(trial_id, [0.5])
    tune.put_down(trial_id, last)
    (trial,) = study.trials()
    assert (trial.state, trial.reason) == ("running", None)
    assert Tune(agenda(study, space=LONG)).ask()[1] == replace(config, known=1)  # the next driver takes it up


def test_every_change_is_told_of_after_it_is_recorded(record):
    study = create(record)
    tune = Tune(agenda(study))
    trial_id, _ = tune.ask()
    tune.report(trial_id, [0.5])
    tune.end(trial_id, [0.5, 0.6], finished=True)
    assert tune.told == [(study.name, 0, "running")] * 2 + [(study.name, 0, "complete")]


def test_what_tune_says_of_a_trial_that_ended_is_ignored(record):
    study = create(record)
    tune = Tune(agenda(study))
    trial_id, _ = tune.ask()
    tune.end(trial_id, [0.5], finished=True)
    tune.lose(trial_id)
    assert study.trials()[0].state == "complete"


def test_a_free_worker_goes_to_a_new_trial_and_not_to_one_whose_worker_is_starting(record):
    """Tune would end the worker that is starting: with short trials only one would ever run."""
    tune = Tune(agenda(create(record)), slots=2)
    waiting = {name: pending(name) for name in ("id0", "id1", "id2")}

    def choose(*names):
        chosen = tune.scheduler.choose_trial_to_run(
            SimpleNamespace(get_live_trials=lambda: [waiting[name] for name in names])
        )
        return chosen and chosen.trial_id

    tune.ask()
    tune.ask()
    assert [choose("id0", "id1") for _ in range(3)] == ["id0", "id1", None]  # both workers are starting
    tune.end("id0", [0.5], finished=True)
    assert choose("id1") is None
    tune.ask()
    assert choose("id1", "id2") == "id2"


@pytest.mark.parametrize("has_worker", [False, True])
def test_a_budget_that_is_used_up_ends_what_waits_for_a_worker(has_worker, record):
    study = create(record)
    stopped = agenda(study)
    tune = Tune(stopped)
    trial_id, _ = tune.ask()
    trial = pending(trial_id)
    trial.temporary_state.ray_actor = object() if has_worker else None
    tune.searcher.check_budget = lambda: stopped.stop("budget: 1 minute")

    controller = SimpleNamespace(
        get_live_trials=lambda: [trial], stop_trial=lambda ended: tune.put_down(ended.trial_id)
    )
    tune.scheduler.choose_trial_to_run(controller)
    if has_worker:  # it ends at its next epoch
        assert study.trials()[0].state == "running"
    else:
        assert (study.trials()[0].state, study.trials()[0].reason) == ("pruned", "budget: 1 minute")
        assert tune.ask()[1] == Searcher.FINISHED


def test_a_budget_that_is_used_up_ends_a_search_for_which_nothing_ever_came(record):
    stopped = agenda(create(record))
    tune = Tune(stopped, slots=0)
    assert tune.ask()[1] is None
    tune.searcher.check_budget = lambda: stopped.stop("budget: 1 minute")
    assert tune.ask()[1] == Searcher.FINISHED


def test_searcher_and_scheduler_pickle_to_nothing(record):
    # Tune pickles both into its scratch folder; connections to a database cannot be.
    tune = Tune(agenda(create(record)))
    for one in (tune.searcher, tune.scheduler):
        assert vars(pickle.loads(pickle.dumps(one))) == {}  # noqa: S301 - our own


def test_tune_finds_nothing_to_save(record, tmp_path):
    tune = Tune(agenda(create(record)))
    tune.searcher.save(str(tmp_path / "state"))
    tune.searcher.restore(str(tmp_path / "state"))
    assert not (tmp_path / "state").exists()


@pytest.mark.integration
def test_a_driver_that_dies_between_trials_goes_on_as_one_that_does_not(record):
    steady, restarted = create(record, "job/steady/adapter"), create(record, "job/restarted/adapter")
    run_to_the_end(Tune(agenda(steady, trials=5)))
    for _ in range(5):
        tune = Tune(agenda(restarted, trials=5))
        trial_id, _ = tune.ask()
        tune.end(trial_id, [0.5], finished=True)
    assert [trial.params for trial in restarted.trials()] == [trial.params for trial in steady.trials()]
