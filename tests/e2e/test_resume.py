"""A search that is interrupted, in whatever way, goes on as if nothing had happened."""

import os
import re
import shlex
import signal
from pathlib import Path

import pytest
from grids import count_epochs
from jobs import adaptune, read_json, read_trials, trial_runs, write_job
from processes import Command, wait_until_gone, workers

pytestmark = pytest.mark.e2e
SLOW_SPACE = {
    "adapter_size": [2, 4, 8, 16],
    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    "epochs": [20],
    "batch_size": [128],
}


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path) -> None:
    """After kill -9: test_halving, and tests/faults/test_driver_kills."""
    write_job(tmp_path, space=SLOW_SPACE, search={"trials": 4, "seed": 1, "scheduler": "none"})
    command = Command("run", "topics.yaml", folder=tmp_path)
    storage = tmp_path / "runs"
    # One trial is done, the next one under way.
    assert command.wait_until(lambda: count_epochs(storage) >= 22), command.output
    command.signal(signal.SIGTERM)
    assert "adaptune resume topics" in command.wait(130)
    before = read_trials(storage)
    assert [trial.state for trial in before[:2]] == ["complete", "running"]
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


def test_what_failed_is_tried_again_on_demand_and_listed(tmp_path: Path) -> None:
    """A worker that dies each time, as for want of memory: two restarts, then its trial has failed."""
    space = {"adapter_size": [2, 4], "learning_rate": [1e-3], "epochs": [20], "batch_size": [128]}
    search = {"trials": 2, "sampler": "grid", "scheduler": "none"}
    write_job(tmp_path, space=space, search=search, resources={"concurrent": 1})
    command = Command("run", "topics.yaml", folder=tmp_path)
    assert command.kill_workers_until("-> failed: its worker died"), command.output
    output = command.wait(0)
    advised = re.search(r"trials that failed: 1. Try them again with: \S*adaptune (.*)", output)
    assert advised is not None, output
    output = Command(*shlex.split(advised[1]), folder=tmp_path, mark=command.mark).wait(0)
    assert "--retry-failed" not in output
    results = read_json(adaptune("results", "topics", "--json", folder=tmp_path))
    (task,) = results["tasks"]
    assert (results["state"], task["retries"]) == ("finished", [0])
    assert (task["trials"]["failed"], task["trials"]["complete"]) == (1, 2)
    failed, _, again = read_trials(tmp_path / "runs")
    assert (failed.state, again.params, again.seed) == ("failed", failed.params, failed.seed)
    assert len(trial_runs(tmp_path / "runs", "topics")) == 3


def test_a_trial_whose_worker_is_killed_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    write_job(tmp_path, space=SLOW_SPACE, search={"trials": 2, "scheduler": "none"})
    command = Command("run", "topics.yaml", folder=tmp_path)
    storage = tmp_path / "runs"
    assert command.wait_until(lambda: count_epochs(storage) >= 3)
    before = read_trials(storage)
    os.kill(workers(command.mark)[0], signal.SIGKILL)
    command.wait(0)
    after = read_trials(storage)
    assert [trial.state for trial in after] == ["complete", "complete"]
    assert all(len(trial.epochs) == 20 for trial in after)
    for old, new in zip(before, after, strict=False):  # the second may not have begun
        assert new.epochs[: len(old.epochs)] == old.epochs
