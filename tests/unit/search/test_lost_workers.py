"""Workers that are lost for want of memory, and trials whose search was stopped in the middle of an epoch."""

from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial
from studies import SPACE, create, opened, start

import search.searcher
from search.agenda import Agenda
from search.local.memory import TOGETHER_SECONDS, MemoryWatch
from search.searcher import MEMORY_RETRIES, STOP_GRACE_SECONDS, StudyScheduler, StudySearcher
from search.workers.assignment import Assignment

OUT_OF_MEMORY = "Failure # 1\nTask was killed due to the node running low on memory.\n"
GONE = "Failure # 1\nThe actor died because its node has died.\n"


class Search:
    """A study of some trials with Tune's calls made by hand, in Tune's order."""

    def __init__(self, study, folder, *, trials=4):
        self.study, self.folder = study, folder
        self.agenda = Agenda(study, SPACE, sampler="random", seed=0, trials=trials)
        self.searcher = StudySearcher([self.agenda], slots=lambda: trials, on_change=lambda *_: None)
        self.warnings = []
        self.scheduler = StudyScheduler(self.searcher, lambda *_: None, warn=self.warnings.append)
        self.asked = 0

    def ask(self):
        """Tune's next trial id, if there is a trial for it."""
        trial_id = f"id{self.asked}"
        self.asked += 1
        return trial_id if isinstance(self.searcher.suggest(trial_id), dict) else None

    def lose(self, trial_id, words):
        file = self.folder / "error.txt"
        file.write_text(words)
        self.scheduler.on_trial_error(None, SimpleNamespace(trial_id=trial_id, error_file=str(file)))
        self.searcher.on_trial_complete(trial_id, error=True)

    def states(self):
        return [trial.state for trial in self.study.trials()]


@pytest.fixture
def run(tmp_path):
    with opened(tmp_path / "runs") as record:
        yield Search(create(record), tmp_path)


@pytest.fixture
def clock(monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr(search.searcher.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_trial_that_has_lost_its_worker_for_want_of_memory_goes_on_with_fewer_at_once(run):
    ids = [run.ask() for _ in range(4)]
    for trial_id in ids[:3]:
        run.lose(trial_id, OUT_OF_MEMORY)
    assert run.states() == ["running"] * 4
    assert "with 3 at once from now on" in run.warnings[0]
    assert "concurrent: 1" in run.warnings[-1]
    assert run.ask() is None  # one is live, and one there is room for
    run.searcher.on_trial_complete(ids[3])
    assert run.ask() is not None
    assert run.ask() is None
    assert len(run.study.trials()) == 4


def test_a_trial_that_never_fits_into_memory_fails_in_the_end_and_says_why(run):
    for _ in range(MEMORY_RETRIES + 1):
        run.lose(run.ask(), OUT_OF_MEMORY)
    (trial,) = run.study.trials()
    assert trial.state == "failed"
    assert "for want of memory, and again with fewer at once" in trial.reason


def test_a_worker_that_is_lost_otherwise_is_a_failure_of_its_trial_and_no_reason_for_fewer(run):
    first = run.ask()
    run.ask()
    run.lose(first, GONE)
    assert run.states() == ["failed", "running"]
    assert run.warnings == []
    assert run.ask() is not None


def test_what_the_kernel_ends_for_memory_is_seen_by_its_count(tmp_path, monkeypatch, clock):
    counters = tmp_path / "vmstat"
    counters.write_text("nr_free_pages 12\noom_kill 4\n")
    monkeypatch.setattr("search.local.memory._COUNTERS", (tmp_path / "missing", counters))
    watch = MemoryWatch()
    assert not watch.ran_out("its worker was killed")
    counters.write_text("nr_free_pages 12\noom_kill 5\n")
    assert watch.ran_out("its worker was killed")
    clock[0] += TOGETHER_SECONDS - 1  # the count had risen by both: the second is heard of later
    assert watch.ran_out("its worker was killed together with that one")
    clock[0] += 2
    assert not watch.ran_out("its worker was killed")


def test_a_long_epoch_is_cut_short_when_its_search_is_stopped(run, clock, monkeypatch):
    killed = []
    monkeypatch.setattr(search.searcher.ray, "kill", killed.append)
    trial_id = run.ask()
    tune = SimpleNamespace(
        trial_id=trial_id, status=Trial.RUNNING, temporary_state=SimpleNamespace(ray_actor="worker")
    )
    controller = SimpleNamespace(get_live_trials=lambda: [tune])
    run.agenda.stop("the budget is used up")
    for seconds, ended in [(0, False), (STOP_GRACE_SECONDS - 1, False), (STOP_GRACE_SECONDS + 1, True)]:
        clock[0] = seconds
        run.scheduler.choose_trial_to_run(controller)
        assert (run.states() == ["pruned"]) is ended
    assert killed == ["worker"]
    assert tune.max_failures == 0
    run.searcher.on_trial_complete(trial_id, error=True)
    assert [trial.reason for trial in run.study.trials()] == ["the budget is used up"]


def test_a_packed_trial_that_takes_too_long_fails_and_leaves_its_place_at_the_host(run, clock, monkeypatch):
    killed, dropped = [], []
    host = SimpleNamespace(drop=SimpleNamespace(remote=lambda *told: dropped.append(told)))
    monkeypatch.setattr(search.searcher.ray, "kill", killed.append)
    monkeypatch.setattr(search.searcher.ray, "get_actor", {"host": host}.__getitem__)
    run.searcher._pick_host = lambda _: "host"
    scheduler = StudyScheduler(run.searcher, lambda *_: None, timeout=2)
    assignment = run.searcher.suggest("id")
    tune = SimpleNamespace(
        trial_id="id",
        status=Trial.RUNNING,
        temporary_state=SimpleNamespace(ray_actor="proxy"),
        config=assignment,
    )
    controller = SimpleNamespace(get_live_trials=lambda: [tune])
    for seconds, ended in [(0, False), (119, False), (121, True)]:
        clock[0] = seconds
        scheduler.choose_trial_to_run(controller)
        assert (run.states() == ["failed"]) is ended
    assert killed == ["proxy"]
    assert dropped == [(Assignment.from_tune(assignment), None)]
    assert run.study.trials()[0].reason == "TrialTimeout: it took more than trial_timeout: 2 minutes"


def test_the_failed_are_tried_again_on_demand_each_once_and_stay_in_the_record(run):
    for _ in range(2):
        run.lose(run.ask(), GONE)
    assert run.study.reopen()
    again = Agenda(run.study, SPACE, sampler="random", seed=0, trials=2)
    assert again.is_open
    numbers = [again.next_trial(lambda *_: None) for _ in range(2)]
    assert again.next_trial(lambda *_: None) is None
    trials = run.study.trials()
    assert [trials[number].retries for number in numbers] == [0, 1]
    assert [trials[number].params for number in numbers] == [trials[0].params, trials[1].params]
    assert run.states()[:2] == ["failed", "failed"]
    assert not run.study.reopen()


def test_a_trial_that_diverged_is_not_tried_again(run):
    run.study.finish_trial(start(run.study), "failed", reason="TrialDiverged: loss nan at step 3")
    assert not run.study.reopen()
    run.lose(run.ask(), GONE)
    assert run.study.reopen()
    assert run.study.again == (1,)


def test_a_finished_study_is_opened_once_more_for_what_had_failed(run):
    run.lose(run.ask(), GONE)
    run.study.fail("no trial ended well")
    run.study.note_tracked()
    assert run.study.reopen()
    assert not run.study.is_finished
    assert not run.study.tracked
    assert run.study.failure is None
