"""The record of truth, on real SQLite files."""

import json
import subprocess
import sys
import time

import optuna
import pytest
from studies import FACTS, SPACE, add, create, epoch, epochs, note_winner, opened, start

from search.record import StudyFacts, Winner

PARAMS = {"adapter_size": 64, "learning_rate": 1e-3, "epochs": 3}


@pytest.fixture
def record(tmp_path):
    with opened(tmp_path) as record:
        yield record


@pytest.fixture
def study(record):
    return create(record)


def python(code, *arguments):
    """Start another process that has our packages."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def test_a_started_trial_is_running_with_its_parameters_and_seed(study):
    number = study.start_trial(PARAMS, SPACE.distributions(), seed=7)
    (trial,) = study.trials()
    assert (number, trial.number, trial.state, trial.seed) == (0, 0, "running", 7)
    assert trial.params == PARAMS
    assert trial.score is None
    assert trial.epochs == ()
    assert trial.ended is None


def test_trials_are_numbered_in_the_order_in_which_they_start(study):
    assert [start(study) for _ in range(3)] == [0, 1, 2]
    assert [trial.number for trial in study.trials()] == [0, 1, 2]


def test_one_trial_is_read_as_among_all_of_them(study, tmp_path):
    numbers = [start(study) for _ in range(3)]
    study.record_epochs(1, epochs([0.5, 0.7]))
    study.finish_trial(1, "complete")
    study.finish_trial(2, "failed", reason="no memory")
    with opened(tmp_path) as other:  # one that did not start them
        (again,) = other.studies(study.job)
        for asked in (study, again):
            assert [asked.trial(number) for number in numbers] == list(study.trials())


def test_the_same_epochs_recorded_again_add_nothing(study):
    number = start(study)
    assert study.record_epochs(number, epochs([0.5, 0.7]))
    assert not study.record_epochs(number, epochs([0.5, 0.7]))
    assert study.trials()[number].epochs == tuple(epochs([0.5, 0.7]))


def test_a_longer_history_adds_what_is_missing_and_leaves_what_was_recorded(study):
    number = start(study)
    study.record_epochs(number, epochs([0.5, 0.7]))
    # As a checkpoint has it after a crash; were the first epochs other ones, the study would keep its own.
    assert study.record_epochs(number, epochs([0.1, 0.1, 0.6]))
    assert [epoch.score for epoch in study.trials()[number].epochs] == [0.5, 0.7, 0.6]


def test_epochs_are_in_order_in_whatever_order_they_came(study):
    number = start(study)
    study.record_epochs(number, [epoch(10, 0.3), epoch(2, 0.2), epoch(1, 0.1)])
    assert [epoch.epoch for epoch in study.trials()[number].epochs] == [1, 2, 10]


def test_a_complete_trial_has_the_score_of_its_best_epoch(study):
    number = add(study, [0.5, 0.9, 0.9, 0.7])
    trial = study.trials()[number]
    assert (trial.state, trial.score, trial.best_epoch, trial.reason) == ("complete", 0.9, 2, None)
    assert trial.seconds == 4 * 0.5


def test_scores_below_zero_are_scores(study):
    # Matthews' correlation goes down to -1.
    number = add(study, [-0.5, -0.2])
    trial = study.trials()[number]
    assert (trial.score, trial.best_epoch) == (-0.2, 2)


def test_a_failed_trial_has_a_reason_and_never_a_score(study):
    number = add(study, [0.99], "failed", reason="TrialDiverged: loss is nan")
    trial = study.trials()[number]
    assert (trial.state, trial.reason) == ("failed", "TrialDiverged: loss is nan")
    assert (trial.score, trial.best_epoch) == (None, None)
    assert len(trial.epochs) == 1


def test_a_pruned_trial_has_a_reason_and_its_score_so_far(study):
    number = add(study, [0.4], "pruned", reason="below the median")
    trial = study.trials()[number]
    assert (trial.state, trial.reason, trial.score) == ("pruned", "below the median", 0.4)


def test_a_finished_trial_stays_as_it_is(study):
    number = add(study, [0.5])
    before = study.trials()[number]
    study.finish_trial(number, "failed", reason="late news")
    study.note_trial(number, node="elsewhere", trained_parameters=1)
    assert not study.record_epochs(number, epochs([0.5, 0.9]))
    assert study.trials()[number] == before


def test_a_reason_written_by_a_driver_that_died_before_the_end_is_not_kept(study):
    number = start(study)
    study._storage.set_trial_user_attr(study._trial(number)._trial_id, "reason", "its worker died")
    assert study.trials()[number].reason is None
    study.record_epochs(number, epochs([0.5]))
    study.finish_trial(number, "complete")
    assert study.trials()[number].reason is None


def test_facts_are_added_and_replaced(study):
    number = start(study)
    study.note_trial(number, node="a", trained_parameters=10)
    study.note_trial(number, node="b", trained_parameters=None)
    trial = study.trials()[number]
    assert (trial.node, trial.trained_parameters) == ("b", 10)


def test_an_epoch_counts_only_once_it_is_written_whole(study):
    # Killed between score and epoch: the epoch is recorded again, and the record is as if nothing happened.
    number = start(study)
    study._storage.set_trial_intermediate_value(study._trial(number)._trial_id, 1, 0.5)
    assert study.trials()[number].epochs == ()
    assert study.record_epochs(number, epochs([0.5]))
    study.finish_trial(number, "complete")
    assert study.trials()[number].score == 0.5


def fail(*_):
    raise OSError("disk full")


def test_an_end_that_cannot_be_written_leaves_no_reason(study, monkeypatch):
    number = start(study)
    with monkeypatch.context() as patched:
        patched.setattr(study._storage, "set_trial_state_values", fail)
        with pytest.raises(OSError, match="disk full"):
            study.finish_trial(number, "failed", reason="its worker died")
    assert "reason" not in study._trial(number).user_attrs


def test_what_the_driver_keeps_in_memory_is_what_others_read(study, tmp_path):
    study.hold()
    for _ in range(3):
        study.start_trial(PARAMS, SPACE.distributions(), seed=3, rungs=[1])
    study.note_trial(0, node="here", trained_parameters=100)
    for number, scores in enumerate([[0.5, 0.7, 0.6], [0.4], [0.3]]):
        study.record_epochs(number, epochs(scores))
    study.promote_trial(1, 1)
    study.finish_trial(0, "complete")
    study.finish_trial(2, "pruned", reason="stopped at rung 1")
    assert [trial.state for trial in study.trials()] == ["complete", "running", "pruned"]
    with opened(tmp_path) as other:
        (again,) = other.studies(study.job)
        assert again.trials() == study.trials()


def test_a_driver_that_was_taken_for_dead_leaves_what_its_successor_has_ended(study, tmp_path):
    number = start(study)
    study.hold()
    with opened(tmp_path) as other:
        (successor,) = other.studies(study.job)
        successor.finish_trial(number, "failed", reason="its worker died")
    assert not study.record_epochs(number, epochs([0.5]))
    assert (study.trial(number).state, study.trial(number).epochs) == ("failed", ())


RECORD = """
import sys
from studies import epochs, opened
from pathlib import Path
with opened(Path(sys.argv[1])) as record:
    (study,) = record.studies("job")
    study.hold()
    for count in range(1, 10_000):
        study.record_epochs(0, epochs([0.5] * count))
        print(count, flush=True)
"""


@pytest.mark.integration
@pytest.mark.parametrize("told", [1, 5])
def test_no_epoch_is_lost_that_was_recorded_before_a_kill(study, tmp_path, told):
    start(study)
    process = python(f"import sys; sys.path[:0] = {sys.path}\n{RECORD}", tmp_path)
    for _ in range(told):
        process.stdout.readline()
    process.kill()
    last = process.communicate()[0].split()  # what it had said before it was killed
    recorded = study.trials()[0].epochs
    assert len(recorded) >= int(last[-1] if last else told)
    assert recorded == tuple(epochs([0.5] * len(recorded)))


@pytest.mark.integration
def test_another_process_sees_everything(tmp_path, record, study):
    add(study, [0.5, 0.6])
    add(study, [0.9], "failed", reason="OutOfMemoryError: no room")
    add(study, [0.3], "running")
    note_winner(study, 0)
    seen = json.loads(
        answer(
            python(
                "import json, sys\n"
                "from dataclasses import asdict\n"
                "from search.storage import Storage\n"
                "from search.study import Record\n"
                "with Record(Storage(sys.argv[1])) as record:\n"
                "    study, = record.studies('job')\n"
                "    trials = [asdict(t) for t in study.trials()]\n"
                "    print(json.dumps([asdict(study.facts), asdict(study.winner), trials], default=str))",
                tmp_path,
            )
        )
    )
    facts, winner, trials = seen
    assert StudyFacts.from_dict(facts) == FACTS
    assert Winner.from_dict(winner) == study.winner
    ours = study.trials()
    assert [trial["state"] for trial in trials] == ["complete", "failed", "running"]
    for theirs, mine in zip(trials, ours, strict=True):
        assert theirs["params"] == mine.params
        assert theirs["epochs"] == [epoch.to_dict() for epoch in mine.epochs]
        assert theirs["reason"] == mine.reason
        assert (theirs["node"], theirs["trained_parameters"]) == (mine.node, mine.trained_parameters)
        assert theirs["ended"] == (str(mine.ended) if mine.ended else None)


@pytest.mark.integration
def test_a_process_that_is_open_sees_what_another_one_writes_later(tmp_path, record, study):
    assert study.trials() == ()
    answer(
        python(
            "import sys\n"
            "from search.storage import Storage\n"
            "from search.study import Record\n"
            "from spaces import Space\n"
            "space = Space.parse({'epochs': [3]})\n"
            "with Record(Storage(sys.argv[1])) as record:\n"
            "    study, = record.studies('job')\n"
            "    study.start_trial({'epochs': 3}, space.distributions(), seed=0)\n"
            "    study.exhaust()",
            tmp_path,
        )
    )
    assert [trial.params for trial in study.trials()] == [{"epochs": 3}]
    assert study.exhausted


@pytest.mark.integration
def test_processes_may_open_a_fresh_storage_at_once(tmp_path):
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from search.record import StudyFacts\n"
        "from search.storage import Storage\n"
        "from search.study import Record\n"
        "Path(sys.argv[1], f'ready-{sys.argv[2]}').touch()\n"
        "while not Path(sys.argv[1], 'go').exists(): time.sleep(0.001)\n"
        "facts = StudyFacts(metric='accuracy', backbone_parameters=1, job={})\n"
        "with Record(Storage(sys.argv[1] + '/runs')) as record:\n"
        "    record.create_study(f'job{sys.argv[2]}/task/adapter', facts)\n"
        "    print(*record.jobs())"
    )
    processes = [python(code, tmp_path, number) for number in range(4)]
    while len(list(tmp_path.glob("ready-*"))) < 4 and all(one.poll() is None for one in processes):
        time.sleep(0.01)
    (tmp_path / "go").touch()
    answers = [answer(process) for process in processes]
    assert all(f"job{number}" in seen for number, seen in enumerate(answers))
    with opened(tmp_path / "runs") as record:
        assert record.jobs() == ("job0", "job1", "job2", "job3")


def test_studies_come_in_the_order_of_the_job(record):
    for position, name in ((2, "b"), (0, "c"), (1, "a")):
        create(record, f"job/{name}/adapter", position=position)
    create(record, "other/a/adapter")
    create(record, "jo/a/adapter")
    assert [study.task for study in record.studies("job")] == ["c", "a", "b"]


def test_a_storage_without_the_job_has_no_studies_of_it(record):
    assert record.studies("job") == ()
    assert record.jobs() == ()


def test_a_study_whose_making_was_cut_short_is_made_whole(record):
    optuna.create_study(study_name="job/task/adapter", storage=record._storage)
    (first,) = record.studies("job")
    assert not first.is_made
    number = start(first)
    again = create(record)
    assert again.is_made
    assert again.facts == FACTS
    assert [trial.number for trial in again.trials()] == [number]


def test_a_study_knows_its_job_task_and_method(study):
    assert (study.job, study.task, study.method) == ("job", "task", "adapter")
