"""Make tests/formats/438765f.tar.xz: what adaptune wrote before its modules moved into rooms.

Run once, copied into a checkout of commit 438765f, from a real search:

    PYTHONPATH=tests python make.py /tmp/adaptune-formats

The folder's path is written into the records; whoever opens them replaces it (tests/old_formats.py). To keep
it small, what can be made again is left out: cache/, tune/ and MLflow's copies of the weights in
the bundles of `methods`.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from jobs import COMMAND, WORDS, adaptune, read_trials, write_job
from tiny import toy_spans, write_spans

SEARCH = {"trials": 3, "scheduler": "halving"}
SMALL = {"learning_rate": [3e-3, 1e-2], "epochs": [3]}


def write_pairs(path: Path, rows: int) -> None:
    rng = random.Random(rows)
    with path.open("w") as file:
        for _ in range(rows):
            good = rng.randint(0, 4)
            words = rng.choices(WORDS["sport"], k=good) + rng.choices(WORDS["money"], k=4 - good)
            row = {"first": "the match", "second": " ".join(words), "score": good / 4}
            file.write(json.dumps(row) + "\n")


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    write_pairs(folder / "pairs.jsonl", 120)
    data = toy_spans(rows=80)
    spans = {"train": str(write_spans(folder / "spans.json", data.train))}
    spans["validation"] = str(write_spans(folder / "spans.parquet", data.validation))
    lines = [
        f"{word} {int(topic == 'sport')} {int(topic == 'money')}" for topic in WORDS for word in WORDS[topic]
    ]
    (folder / "topics.vec").write_text(f"{len(lines)} 2\n" + "\n".join(lines) + "\n")
    files = {split: f"{split}.csv" for split in ("train", "validation", "test")}
    topics = {"name": "topics", "files": files, "text": "body", "label": "topic", "metrics": ["f1"]}
    similarity = {
        "name": "similarity",
        "files": {"train": "pairs.jsonl"},
        "text": ["first", "second"],
        "label": "score",
        "kind": "regression",
        "metrics": ["pearson"],
    }
    write_job(
        folder,
        name="methods",
        tasks=[topics],
        method=["adapter", "fine_tune", "top_layers", "layer_norm", "embeddings"],
        vectors={"topics": "topics.vec"},
        space={
            "adapter": {"adapter_size": [2, 8], **SMALL},
            "fine_tune": SMALL,
            "top_layers": {"top_layers": [1, 2], **SMALL},
            "layer_norm": SMALL,
            "embeddings": {
                "embedding": ["topics"],
                "hidden_size": [8],
                "training_samples": [600, 1200],
                "hidden_layers": [1],
            },
        },
        search=SEARCH,
        confirm={"top": 1, "seeds": 2},
    )
    write_job(
        folder,
        name="kinds",
        tasks=[similarity, {"name": "animals", "kind": "span", "files": spans, "metrics": ["squad_em"]}],
        max_tokens=32,
        space={"adapter_size": [8], **SMALL},
        search={**SEARCH, "trials": 2},
    )
    write_job(
        folder,
        name="topics",
        tasks=[topics, similarity],
        space={
            "adapter_size": [2, 4, 8],
            "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
            "epochs": [40],
        },
        search={"trials": 6, "scheduler": "halving", "objectives": ["score", "trained_parameters"]},
    )
    for name in ("methods", "kinds"):
        adaptune("run", f"{name}.yaml", folder=folder)
    process = subprocess.Popen([*COMMAND, "run", "topics.yaml"], cwd=folder, start_new_session=True)
    while sum(len(trial.epochs) for trial in read_trials(folder / "runs")) < 12:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    expected = {}
    for name in ("methods", "kinds", "topics"):
        done = adaptune("results", name, "--json", folder=folder)
        expected[name] = json.loads(done.stdout)
    texts = ["goal team match", "bank price share", "market win"]
    for bundle in sorted((folder / "runs").glob("*/bundles/topics/*")):
        done = adaptune("predict", bundle, *texts, "--json", folder=folder)
        expected[f"predict {bundle.relative_to(folder)}"] = [
            json.loads(line) for line in done.stdout.splitlines()
        ]
    (folder / "expected.json").write_text(json.dumps(expected, indent=1))
    with tarfile.open(f"{folder}.tar.xz", "w:xz") as archive:
        archive.add(folder, arcname=".", filter=keep)


def keep(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """A member of the archive, or None for what is left out of it."""
    parts = Path(member.name).parts
    weights = {"mlartifacts", "methods"} <= set(parts) and parts[-1].endswith(".safetensors")
    return None if weights or {"cache", "tune", ".lock"} & set(parts) else member


main(Path(sys.argv[1]).absolute())
