"""docs/architecture.md, "Add a thing": one of each sort, registered from outside, from job file to use.

The command runs with tests/outside on its path, whose `sitecustomize` enters them into the tables of every
process, Ray's workers included, as a plug-in would.
"""

import csv
import json
import random
from pathlib import Path

import pytest
from jobs import WORDS, adaptune, read_json, trial_runs, write_job

OUTSIDE = Path(__file__).parents[1] / "outside"
ENVIRONMENT = {"PYTHONPATH": str(OUTSIDE)}

pytestmark = pytest.mark.e2e


def made_up(*arguments: object, folder: Path, check: int = 0, python: bool = False):
    return adaptune(*map(str, arguments), folder=folder, environment=ENVIRONMENT, check=check, python=python)


def write_rows(path: Path, rows: int, seed: int) -> str:
    rng = random.Random(seed)
    labels = [rng.choice(sorted(WORDS)) for _ in range(rows)]
    texts = [" ".join(rng.choices(WORDS[label], k=6)) for label in labels]
    path.write_text(json.dumps([["text", "label"], *([*row] for row in zip(texts, labels, strict=True))]))
    return path.name


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the made-up things have been searched with."""
    folder = tmp_path_factory.mktemp("made-up")
    write_job(folder)  # for its encoder
    config = json.loads((folder / "encoder/config.json").read_text())
    changed = config | {"model_type": "made-up", "architectures": ["MadeUpModel"]}
    (folder / "encoder/config.json").write_text(json.dumps(changed))
    files = {
        split: write_rows(folder / f"{split}.made", 60, len(split))
        for split in ("train", "validation", "test")
    }
    write_job(
        folder,
        name="moods",
        tasks=[{"name": "moods", "kind": "moods", "metric": "confidence", "files": files}],
        method="made_up_head",
        space={"learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}, "epochs": [2]},
        search={"trials": 3, "sampler": "dice", "scheduler": "strict"},
    )
    told = made_up("check", "moods.yaml", folder=folder).stdout
    assert "moods, chosen by confidence" in told
    assert "sampler dice, scheduler strict" in told
    made_up("run", "moods.yaml", folder=folder, python=True)
    return folder


def test_without_the_plug_in_each_name_is_refused(finished: Path) -> None:
    refused = adaptune("check", "moods.yaml", folder=finished, check=2).stderr
    for name in ("moods", "confidence", "made_up_head", "dice", "strict"):
        assert name in refused


def test_the_results_know_method_metric_and_what_the_scheduler_did(finished: Path) -> None:
    (task,) = read_json(made_up("results", "moods", "--json", folder=finished))["tasks"]
    assert (task["method"], task["metric"], task["state"]) == ("made_up_head", "confidence", "finished")
    assert task["trials"] == {"complete": 1, "pruned": 2, "failed": 0, "running": 0, "paused": 0}
    assert 0 < task["best"]["validation"] <= 1
    assert task["best"]["trained_parameters"] == 2 * 32 + 2  # the head's, of an encoder of width 32


def test_mlflow_shows_the_made_up_numbers(finished: Path) -> None:
    runs = trial_runs(finished / "runs", "moods")
    assert {run.data.tags["made_up_parity"] for run in runs} == {"even", "odd"}
    assert {run.data.metrics["made_up_squares"] for run in runs} == {1.0, 4.0}


def test_the_report_has_the_made_up_figure_and_the_method_s_label(finished: Path) -> None:
    made_up("report", "moods", "--paper", "--out", "report", folder=finished)
    rows = list(csv.DictReader((finished / "report/figure_made_up.csv").read_text().splitlines()))
    assert [row["points_of_100"] for row in rows] == ["3.0"]
    assert (finished / "report/figure_made_up.svg").stat().st_size
    assert "Made up: configurations" in (finished / "report/report.html").read_text()


def test_the_bundle_is_exported_and_predicts(finished: Path) -> None:
    made_up("export", "moods", "--out", "adapters", folder=finished)
    card = (finished / "adapters/moods/README.md").read_text()
    assert "A head alone (nobody 2026)" in card
    assert "Tells moods: money, sport." in card
    given = write_rows(finished / "ask.made", 20, 7)
    lines = made_up(
        "predict", "adapters/moods", "--input", given, "--json", folder=finished
    ).stdout.splitlines()
    assert len(lines) == 20
    assert {json.loads(line)["label"] for line in lines} <= {"money", "sport"}


def test_the_command_is_one_of_ours(finished: Path) -> None:
    assert "count" in made_up("--help", folder=finished).stdout
    assert made_up("count", "moods", "--twice", folder=finished).stdout == "6\n"
