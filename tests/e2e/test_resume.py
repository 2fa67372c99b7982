"""A search that is interrupted, in whatever way, goes on as if nothing had happened."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from jobs import adaptune, read_json, read_trials, start_adaptune, trial_runs, wait_for, write_job

from search.study import TrialRecord

pytestmark = pytest.mark.e2e
SLOW_SPACE = {
    "adapter_size": [2, 4, 8, 16],
    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    "epochs": [20],
}


def one_done_and_one_under_way(trials: tuple[TrialRecord, ...]) -> bool:
    states = [trial.state for trial in trials]
    return "complete" in states and any(
        trial.state == "running" and len(trial.epochs) >= 2 for trial in trials
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that work in or on a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_text().replace("\0", " ")
            if str(folder) in text or Path(entry / "cwd").resolve().is_relative_to(folder):
                found.append(text)
        except OSError:
            continue
    return found


def workers_of(driver: subprocess.Popen[str]) -> list[int]:
    """The process ids of a driver's trial workers: descendants of it, wherever their sessions are."""
    found, parents = [], {driver.pid}
    entries = sorted((entry for entry in Path("/proc").glob("[0-9]*")), key=lambda entry: int(entry.name))
    for _ in range(5):  # generations
        for entry in entries:
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) in parents:
                    parents.add(int(entry.name))
    for pid in parents:
        with contextlib.suppress(OSError):
            if (Path("/proc") / str(pid) / "cmdline").read_text().startswith("ray::ResourceTrainable"):
                found.append(pid)
    assert found, "no worker found"
    return found


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130)])
def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    write_job(tmp_path, space=SLOW_SPACE, search={"trials": 4, "seed": 1, "scheduler": "none"})
    process = start_adaptune("run", "topics.yaml", folder=tmp_path)
    storage = tmp_path / "runs"
    wait_for(process, storage, one_done_and_one_under_way)
    os.kill(process.pid, sent)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    if code == 130:
        assert "adaptune resume topics" in output
    before = read_trials(storage)
    assert read_json(adaptune("results", "topics", "--json", folder=tmp_path))["state"] == "interrupted"

    adaptune("resume", "topics", folder=tmp_path)

    after = read_trials(storage)
    assert [trial.state for trial in after] == ["complete"] * 4
    for old, new in zip(before, after, strict=False):
        assert new.params == old.params
        # Known epochs were not trained again: they are the same down to the time of day.
        assert new.epochs[: len(old.epochs)] == old.epochs
        assert [epoch["epoch"] for epoch in new.epochs] == list(range(1, 21))
    keys = [run.data.tags["adaptune.trial"] for run in trial_runs(storage, "topics")]
    assert sorted(keys) == [f"topics/topics/adapter/{number}" for number in range(4)]
    assert all(run.info.status == "FINISHED" for run in trial_runs(storage, "topics"))
    assert read_json(adaptune("results", "topics", "--json", folder=tmp_path))["state"] == "finished"
    # The agents of a killed driver's Ray look for its control service for a minute before they give up.
    deadline = time.monotonic() + 150
    while left := processes_of(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(1)


def test_a_trial_whose_worker_is_killed_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    write_job(tmp_path, space=SLOW_SPACE, search={"trials": 2, "scheduler": "none"})
    process = start_adaptune("run", "topics.yaml", folder=tmp_path)
    storage = tmp_path / "runs"
    wait_for(process, storage, lambda trials: any(len(trial.epochs) >= 3 for trial in trials))
    before = read_trials(storage)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    after = read_trials(storage)
    assert [trial.state for trial in after] == ["complete", "complete"]
    for old, new in zip(before, after, strict=True):
        assert new.epochs[: len(old.epochs)] == old.epochs
        assert len(new.epochs) == 20
