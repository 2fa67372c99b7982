"""Small jobs for the end-to-end tests: a toy task, a tiny encoder, and the command in its own process."""

import csv
import json
import os
import random
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forks import PROGRAM, Forked
from ruamel.yaml import YAML
from tiny import save_tiny_encoder

from search.record import Trial
from search.storage import Storage
from search.study import Record

COMMAND_SECONDS = 300
COMMAND = [PROGRAM]
WORDS = {"sport": ("goal", "team", "match", "win"), "money": ("bank", "price", "market", "share")}


def write_topics(path: Path, *, rows: int, seed: int) -> None:
    """A csv of short texts about sport or money, told apart by their words."""
    rng = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["body", "topic"])
        for _ in range(rows):
            topic = rng.choice(sorted(WORDS))
            writer.writerow([" ".join(rng.choices(WORDS[topic], k=rng.randint(3, 8))), topic])


def write_job(folder: Path, *, name: str = "topics", **changes: Any) -> Path:
    """A job file with its data and its encoder in a folder; `changes` replace keys of the file.

    One trial at a time: a second worker would import torch for some seconds, beside another test that does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder = folder / "encoder"
    if not encoder.exists():
        save_tiny_encoder(encoder)
        for split, rows in (("train", 256), ("validation", 40), ("test", 40)):
            write_topics(folder / f"{split}.csv", rows=rows, seed=rows)
    files = {split: f"{split}.csv" for split in ("train", "validation", "test")}
    job = {
        "name": name,
        "backbone": str(encoder),
        "tasks": [{"name": "topics", "files": files, "text": "body", "label": "topic"}],
        "max_tokens": 16,
        "space": {
            "adapter_size": [2, 4, 8],
            "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
            "epochs": [5],
        },
        "search": {"trials": 3, "scheduler": "none"},
        "confirm": "none",
        "resources": {"concurrent": 1},
        **changes,
    }
    path = folder / f"{name}.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(job, file)
    return path


def adaptune(
    *arguments: str | Path,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    check: int = 0,
    python: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end and check its exit code.

    Args:
        environment: what it has beside ours.
        python: start Python for it; else it is forked.
    """
    words = list(map(str, arguments))
    everything = {**os.environ, **(environment or {})}
    if python:
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=folder,
            env=everything,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    else:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            outputs = {"stdout": out.fileno(), "stderr": err.fileno()}
            code = Forked(words, folder=folder, environment=everything, **outputs).wait(COMMAND_SECONDS)
            out.seek(0)
            err.seek(0)
            done = subprocess.CompletedProcess(words, code, out.read(), err.read())
    assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def read_json(done: subprocess.CompletedProcess[str]) -> Any:
    """What a command printed with --json: JSON and nothing else."""
    return json.loads(done.stdout)


def trial_runs(storage: Path, experiment: str) -> Sequence[Any]:
    """MLflow's runs of trials, read back through its client."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=Storage(str(storage)).tracking_uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id], max_results=1000)
    return [run for run in runs if "adaptune.trial" in run.data.tags]


def read_trials(storage: Path) -> tuple[Trial, ...]:
    if not (storage / "studies.db").exists():
        return ()
    with Record(Storage(str(storage))) as record:
        studies = record.studies("topics")
        return studies[0].trials() if studies else ()
