"""Halving on Ray: paused trials cost no process, survive a killed driver, and are ended at the end."""

from pathlib import Path

import pytest
from grids import count_epochs
from jobs import adaptune, read_json, read_trials, trial_runs, write_job
from processes import Command

from search.decisions.halving import rungs

pytestmark = pytest.mark.e2e
SPACE = {"adapter_size": [2, 4, 8], "learning_rate": [1e-4, 1e-3, 1e-2], "epochs": [3, 10]}


def test_a_killed_search_with_halving_goes_on_and_confirms_its_winner(tmp_path: Path) -> None:
    write_job(tmp_path, space=SPACE, search={"trials": 7, "seed": 1}, confirm={"top": 1, "seeds": 2})
    command = Command("run", "topics.yaml", folder=tmp_path)
    storage = tmp_path / "runs"
    assert command.wait_until(lambda: count_epochs(storage) >= 3)
    command.signal()
    command.wait(-9)
    before = read_trials(storage)
    assert sum(trial.state == "paused" for trial in before) >= 2
    shown = read_json(adaptune("results", "topics", "--json", folder=tmp_path))
    assert shown["state"] == "interrupted"
    assert shown["tasks"][0]["trials"]["paused"] == sum(trial.state == "paused" for trial in before)

    adaptune("resume", "topics", folder=tmp_path)

    after = read_trials(storage)
    searched = [trial for trial in after if trial.confirms is None]
    assert len(searched) == 7
    assert {trial.state for trial in after} <= {"complete", "pruned"}
    for trial in searched:
        # A pruned trial ended at a rung, not an epoch later; and no epoch was trained twice.
        ends = {trial.schedule} if trial.state == "complete" else set(rungs(trial.schedule, 3))
        assert len(trial.epochs) in ends
        assert [epoch.epoch for epoch in trial.epochs] == list(range(1, len(trial.epochs) + 1))
    for old, new in zip(before, after, strict=False):
        assert new.params == old.params
        assert new.epochs[: len(old.epochs)] == old.epochs
    result = read_json(adaptune("results", "topics", "--json", folder=tmp_path))["tasks"][0]
    assert result["state"] == "finished"
    assert sum(result["trials"].values()) == 7
    assert len(result["best"]["seeds"]["runs"]) >= 2
    assert len(result["confirmations"]) == len(after) - 7
    runs = trial_runs(storage, "topics")
    assert len({run.data.tags["adaptune.trial"] for run in runs}) == len(runs) == len(after)
    assert all(run.info.status == "FINISHED" for run in runs)
