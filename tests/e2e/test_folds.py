"""Folds on Ray: a killed search goes on, and its winner is tested as trained again on all rows."""

import csv
from pathlib import Path

import pytest
from grids import count_epochs
from jobs import adaptune, read_json, read_trials, trial_runs, write_job
from processes import Command

from pipelines import AdapterBundle

pytestmark = pytest.mark.e2e
SPACE = {"adapter_size": [2, 4], "learning_rate": [1e-3, 1e-2], "epochs": [3]}


def read(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8") as file:
        return [(row["body"], row["topic"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("pack", [1, 4])
def test_a_killed_search_in_folds_goes_on_and_tests_the_winner_as_trained_on_all_rows(
    tmp_path: Path, pack: int
) -> None:
    resources = {"concurrent": 1, "pack": pack}
    write_job(tmp_path, space=SPACE, split={"folds": 3}, search={"trials": 3}, resources=resources)
    command = Command("run", "topics.yaml", folder=tmp_path)
    storage = tmp_path / "runs"
    assert command.wait_until(lambda: count_epochs(storage) >= 2)
    command.signal()
    command.wait(-9)
    before = read_trials(storage)

    adaptune("resume", "topics", folder=tmp_path)

    after = read_trials(storage)
    (refit,) = [trial for trial in after if trial.refits is not None]
    assert [trial.number for trial in after if trial.searched] == [0, 1, 2]
    for old, new in zip(before, after, strict=False):
        assert new.epochs[: len(old.epochs)] == old.epochs
    (entry,) = read_json(adaptune("results", "topics", "--json", folder=tmp_path))["tasks"]
    best = entry["best"]
    assert (entry["state"], entry["folds"], best["refit"]) == ("finished", 3, refit.number)
    assert best["trial"] == refit.refits
    assert len(refit.epochs) == after[refit.refits].best_epoch
    low, high = best["interval"]["validation"]
    assert low <= best["validation"] <= high
    bundle = AdapterBundle.load(best["bundle"])
    test = read(tmp_path / "test.csv")
    said = [answer.label for answer in bundle.predict([text for text, _ in test])]
    right = sum(label == topic for label, (_, topic) in zip(said, test, strict=True))
    assert best["test"] == pytest.approx(right / len(test))
    runs = trial_runs(storage, "topics")
    assert len(runs) == len(after)
    (shown,) = [run for run in runs if run.data.tags.get("refits")]
    assert "validation_accuracy" not in shown.data.metrics
    assert "train_loss" in shown.data.metrics
