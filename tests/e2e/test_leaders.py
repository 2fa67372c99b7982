"""Leaders that cannot be told apart, on Ray: run again through a kill; and jobs of before."""

from pathlib import Path

import pytest
from grids import count_epochs
from jobs import adaptune, read_json, read_trials, trial_runs, write_job
from old_formats import unpack
from processes import Command

from pipelines import AdapterBundle
from pipelines.bundle_files import read_files
from search.decisions.confirmation import next_round, pick_winner
from search.storage import Storage
from search.study import Record

pytestmark = pytest.mark.e2e
SPACE = {"adapter_size": [2, 4, 8], "learning_rate": [1e-2], "epochs": [3]}  # all learn the task: none leads
SEARCH = {"trials": 3, "scheduler": "none", "sampler": "grid"}


@pytest.mark.parametrize(
    "changes", [{}, {"split": {"folds": 2}}, {"resources": {"concurrent": 1, "pack": 3}}]
)
def test_leaders_are_confirmed_through_a_kill_and_the_best_mean_is_exported(
    tmp_path: Path, changes: dict
) -> None:
    write_job(tmp_path, space=SPACE, search=SEARCH, confirm={"budget": 2.0}, **changes)
    told = adaptune("check", "topics.yaml", folder=tmp_path).stdout
    assert "then the leaders, where they cannot be told apart" in told
    storage = tmp_path / "runs"
    command = Command("run", "topics.yaml", folder=tmp_path)
    assert command.wait_until(lambda: count_epochs(storage) >= 10)  # the search has 9
    command.signal()
    command.wait(-9)

    adaptune("resume", "topics", folder=tmp_path)

    trials = read_trials(storage)
    with Record(Storage(str(storage))) as record:
        (study,) = record.studies("topics")
        leaders, winner = study.leaders, study.winner
    assert leaders is not None
    assert winner is not None
    assert len(leaders.trials) >= 2
    again = [trial for trial in trials if trial.confirms is not None]
    assert len(again) >= 2
    assert {trial.confirms for trial in again} <= {*leaders.trials}
    assert sum(len(trial.epochs) for trial in again) <= leaders.epochs == 18
    assert next_round(trials, leaders)[1] == []
    best = pick_winner(trials, leaders)
    assert best is not None
    assert winner.trial == best.number
    (entry,) = read_json(adaptune("results", "topics", "--json", folder=tmp_path))["tasks"]
    assert entry["best"]["params"] == entry["leaders"][0]["params"]
    assert [run["seed"] for run in entry["best"]["seeds"]["runs"]] == entry["leaders"][0]["seeds"]
    assert entry["best"]["seeds"]["validation"]["mean"] == pytest.approx(entry["leaders"][0]["mean"])
    assert len(entry["leaders"]) == 3
    _, _, metrics = read_files(Path(entry["best"]["bundle"]))
    assert (metrics["trial"], metrics["seed"]) == (best.number, best.seed)
    assert AdapterBundle.load(entry["best"]["bundle"]).predict(["goal team match"])
    if any(not leader["told_apart"] for leader in entry["leaders"][1:]):
        card = Path(entry["best"]["bundle"], "README.md").read_text()
        assert "cannot be told apart from" in card
        assert "cannot be told apart from" in adaptune("results", "topics", folder=tmp_path).stdout
    assert len(trial_runs(storage, "topics")) == len(trials)


@pytest.mark.parametrize("how", [("run", "topics.yaml"), ("resume", "topics")])
def test_a_job_of_before_goes_on_as_it_was_begun(tmp_path: Path, how: tuple[str, str]) -> None:
    folder = unpack(tmp_path / "old")
    assert "confirm" not in (folder / "topics.yaml").read_text()
    adaptune(*how, folder=folder)
    for entry in read_json(adaptune("results", "topics", "--json", folder=folder))["tasks"]:
        assert entry["state"] == "finished"
        assert entry["confirmations"] == []
        assert entry["best"]["bundle"]
