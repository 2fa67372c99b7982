"""Questions about contexts, from a job file to answers, beside a classification in one job."""

import json
from pathlib import Path

import pytest
from jobs import adaptune, read_json, write_job
from tiny import toy_spans, write_spans

pytestmark = pytest.mark.e2e


def test_a_span_task_is_searched_exported_and_answers(tmp_path: Path) -> None:
    data = toy_spans(rows=120)
    files = {"train": str(write_spans(tmp_path / "train.json", data.train))}
    files["validation"] = str(write_spans(tmp_path / "validation.parquet", data.validation))
    write_job(
        tmp_path,
        name="animals",
        tasks=[{"name": "animals", "kind": "span", "files": files, "metrics": ["squad_em"]}],
        max_tokens=32,
        space={"adapter_size": [8], "learning_rate": [1e-2], "epochs": [5], "batch_size": [8]},
        search={"trials": 1},
    )
    adaptune("run", "animals.yaml", folder=tmp_path)
    (found,) = read_json(adaptune("results", "animals", "--json", folder=tmp_path))["tasks"]
    assert found["metric"] == "squad_f1"
    assert found["best"]["validation"] >= 0.9
    assert found["best"]["test"] >= 0.7

    adaptune("export", "animals", "--out", "adapters", folder=tmp_path)
    card = (tmp_path / "adapters" / "animals" / "README.md").read_text()
    assert "squad_em" in card
    given = write_spans(tmp_path / "ask.parquet", data.test)
    done = adaptune("predict", "adapters/animals", "--input", given, "--json", folder=tmp_path)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == [[one.question, one.context] for one in data.test]
    right = [line["label"] == one.answers[0] for line, one in zip(lines, data.test, strict=True)]
    assert sum(right) >= 0.8 * len(right)
    shown = adaptune("predict", "adapters/animals", "--input", given, folder=tmp_path).stdout
    assert shown.splitlines()[0] == f"{lines[0]['label']}\t\twhat did you see?"
