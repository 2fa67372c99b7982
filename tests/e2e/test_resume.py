"""A search that is interrupted, in whatever way, goes on as if nothing had happened."""

import os
import signal
from pathlib import Path

import pytest
from jobs import adaptune, read_json, read_trials, trial_runs, write_job
from processes import Command, wait_until_gone, workers

from search.record import Trial

pytestmark = pytest.mark.e2e
SLOW_SPACE = {
    "adapter_size": [2, 4, 8, 16],
    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    "epochs": [20],
}


def one_done_and_one_under_way(trials: tuple[Trial, ...]) -> bool:
    states = [trial.state for trial in trials]
    return "complete" in states and any(
        trial.state == "running" and len(trial.epochs) >= 2 for trial in trials
    )


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130)])
def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    write_job(tmp_path, space=SLOW_SPACE, search={"trials": 4, "seed": 1, "scheduler": "none"})
    command = Command("run", "topics.yaml", folder=tmp_path)
    storage = tmp_path / "runs"
    assert command.wait_until(lambda: one_done_and_one_under_way(read_trials(storage))), command.output
    command.signal(sent)
    output = command.wait(code)
    if code == 130:
        assert "adaptune resume topics" in output
    before = read_trials(storage)
    assert read_json(adaptune("results", "topics", "--json", folder=tmp_path))["state"] == "interrupted"

    Command("resume", "topics", folder=tmp_path, mark=command.mark).wait(0)

    after = read_trials(storage)
    assert [trial.state for trial in after] == ["complete"] * 4
    for old, new in zip(before, after, strict=False):
        assert new.params == old.params
        # Known epochs were not trained again: they are the same down to the time of day.
        assert new.epochs[: len(old.epochs)] == old.epochs
        assert [epoch.epoch for epoch in new.epochs] == list(range(1, 21))
    keys = [run.data.tags["adaptune.trial"] for run in trial_runs(storage, "topics")]
    assert sorted(keys) == [f"topics/topics/adapter/{number}" for number in range(4)]
    assert all(run.info.status == "FINISHED" for run in trial_runs(storage, "topics"))
    assert read_json(adaptune("results", "topics", "--json", folder=tmp_path))["state"] == "finished"
    wait_until_gone(command.mark)


def test_a_trial_whose_worker_is_killed_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    write_job(tmp_path, space=SLOW_SPACE, search={"trials": 2, "scheduler": "none"})
    command = Command("run", "topics.yaml", folder=tmp_path)
    storage = tmp_path / "runs"
    assert command.wait_until(lambda: any(len(trial.epochs) >= 3 for trial in read_trials(storage)))
    before = read_trials(storage)
    os.kill(workers(command.mark)[0], signal.SIGKILL)
    command.wait(0)
    after = read_trials(storage)
    assert [trial.state for trial in after] == ["complete", "complete"]
    for old, new in zip(before, after, strict=True):
        assert new.epochs[: len(old.epochs)] == old.epochs
        assert len(new.epochs) == 20
