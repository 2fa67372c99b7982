"""From a job file to a loaded bundle, through the command, as its user does it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jobs import adaptune, read_json, trial_runs, write_job

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the toy job has run to its end, with the default storage. Its name has what means
    something in a URL, as Jenkins makes such names of branches; foreign packages of our names lie in it.
    """
    folder = tmp_path_factory.mktemp("finished") / "x%2Fy?a=b#c"
    write_job(folder, resources={"concurrent": 2})
    for name in ("search", "spaces", "pipelines"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise ImportError('the foreign package was imported')\n")
    done = adaptune("run", "topics.yaml", folder=folder, python=True)
    assert "trial 2" in done.stdout
    return folder


def test_results_tell_what_was_found(finished: Path) -> None:
    results = read_json(adaptune("results", "topics", "--json", folder=finished))
    (task,) = results["tasks"]
    assert (results["job"], results["state"]) == ("topics", "finished")
    assert task["trials"] == {"complete": 3, "pruned": 0, "failed": 0, "running": 0, "paused": 0}
    assert task["best"]["validation"] >= 0.9
    assert task["best"]["test"] >= 0.9
    assert 0 < task["best"]["trained_fraction"] < 1


def test_every_trial_is_one_nested_mlflow_run_with_all_its_epochs(finished: Path) -> None:
    runs = trial_runs(finished / "runs", "topics")
    assert sorted(run.data.tags["adaptune.trial"] for run in runs) == [
        f"topics/topics/adapter/{number}" for number in range(3)
    ]
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"]
        assert set(run.data.params) == {"adapter_size", "learning_rate", "epochs"}
        assert {"train_loss", "validation_accuracy", "epoch_seconds"} <= set(run.data.metrics)
        assert run.data.metrics["best_validation_accuracy"] >= run.data.metrics["validation_accuracy"]


def test_artifacts_lie_under_the_storage_and_not_in_mlruns(finished: Path) -> None:
    assert not (finished / "mlruns").exists()
    assert list((finished / "runs" / "mlartifacts").rglob("adapter.safetensors"))


def test_an_exported_bundle_predicts(finished: Path) -> None:
    adaptune("export", "topics", "--out", "adapters", folder=finished)
    done = adaptune("predict", "adapters/topics", "goal team win", "bank share", "--json", folder=finished)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["label"] for line in lines] == ["sport", "money"]
    assert all(sum(line["scores"].values()) == pytest.approx(1) for line in lines)


def test_export_overwrites_nothing(finished: Path) -> None:
    (finished / "taken" / "topics").mkdir(parents=True)
    (finished / "taken" / "topics" / "mine.txt").write_text("mine")
    done = adaptune("export", "topics", "--out", "taken", folder=finished, check=2)
    assert "is not empty" in done.stderr
    assert (finished / "taken" / "topics" / "mine.txt").read_text() == "mine"


def test_running_a_finished_job_again_prints_its_leaderboard(finished: Path) -> None:
    before = read_json(adaptune("results", "topics", "--json", folder=finished))
    done = adaptune("run", "topics.yaml", folder=finished)
    assert "finished" in done.stdout
    assert read_json(adaptune("results", "topics", "--json", folder=finished)) == before


def test_another_job_of_the_same_name_is_refused_and_told_what_to_do(finished: Path) -> None:
    write_job(finished / "other", search={"trials": 4, "scheduler": "none"})
    done = adaptune("run", "other/topics.yaml", "--storage", "runs", folder=finished, check=2)
    assert "search.trials: 3 -> 4" in done.stderr
    assert "adaptune resume topics" in done.stderr
    assert "another name" in done.stderr


def test_changed_rows_are_refused(finished: Path) -> None:
    train = finished / "train.csv"
    content = train.read_text()
    try:
        train.write_text(content + "goal goal goal,sport\n")
        done = adaptune("run", "topics.yaml", folder=finished, check=2)
    finally:
        train.write_text(content)
    assert "the rows of task 'topics' are not those it was started with" in done.stderr
    assert "put the rows, the encoder or the vectors back as they were" in done.stderr
    assert "adaptune resume" not in done.stderr  # which would be refused for the same rows


def test_a_job_searches_several_tasks_of_all_kinds(tmp_path: Path) -> None:
    write_job(tmp_path)
    pairs = [
        f"{first},{second},{int(first == second)}"
        for first in ("goal", "bank")
        for second in ("goal", "bank")
    ]
    numbers = [f"{'win ' * (row % 4)}price,{row % 4}" for row in range(40)]
    (tmp_path / "pairs.csv").write_text("a,b,same\n" + "\n".join(pairs * 16) + "\n")
    (tmp_path / "numbers.tsv").write_text("text\tlabel\n" + "\n".join(numbers).replace(",", "\t") + "\n")
    splits = ("train", "validation", "test", "validation_mismatched")
    for split, rows in zip(splits, (60, 12, 12, 9), strict=True):
        texts = [f"goal {row % 3}" for row in range(rows)]
        labels = [("entailment", "neutral", "contradiction")[row % 3] for row in range(rows)]
        path = tmp_path / "data" / "glue_mnli" / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"text_a": texts, "text_b": texts, "label": labels}), path)
    write_job(
        tmp_path,
        name="several",
        data_dir="data",
        tasks=[
            {
                "name": "pairs",
                "files": {"train": "pairs.csv"},
                "text": ["a", "b"],
                "label": "same",
                "metric": "f1",
                "positive": "1",
            },
            {"name": "numbers", "files": {"train": "numbers.tsv"}, "kind": "regression"},
            "glue_mnli",
        ],
        space={"adapter_size": [4], "learning_rate": [1e-3, 1e-2], "epochs": [2]},
        search={"trials": 2, "sampler": "grid", "scheduler": "none"},
    )
    adaptune("run", "several.yaml", folder=tmp_path)
    results = read_json(adaptune("results", "several", "--json", folder=tmp_path))
    assert [(task["task"], task["trials"]["complete"]) for task in results["tasks"]] == [
        ("pairs", 2),
        ("numbers", 2),
        ("glue_mnli", 2),
    ]
    # Beside the test set, of the winner alone: MNLI has two validation sets, and the first one chose.
    also = [task["best"]["also"] for task in results["tasks"]]
    assert also[:2] == [{}, {}]
    assert round(also[2]["validation_mismatched"] * 9, 6) in range(10)
    adaptune("export", "several", "--out", "adapters", folder=tmp_path)
    told = json.loads((tmp_path / "adapters" / "glue_mnli" / "metrics.json").read_text())
    assert told["validation_mismatched"]["accuracy"] == also[2]["validation_mismatched"]
    assert "validation_mismatched accuracy" in (tmp_path / "adapters" / "glue_mnli" / "README.md").read_text()
    given = tmp_path / "new.jsonl"
    given.write_text('{"a": "goal", "b": "goal"}\n')
    done = adaptune("predict", "adapters/pairs", "--input", given, "--json", folder=tmp_path)
    assert json.loads(done.stdout)["text"] == ["goal", "goal"]
    done = adaptune("predict", "adapters/numbers", "win price", "--json", folder=tmp_path)
    assert isinstance(json.loads(done.stdout)["label"], float)


def test_foreign_packages_of_our_names_where_we_start_do_not_get_in_our_way(finished: Path) -> None:
    assert (finished / "search" / "__init__.py").exists()
    results = read_json(adaptune("results", "topics", "--json", folder=finished, python=True))
    assert results["tasks"][0]["trials"]["complete"] == 3
