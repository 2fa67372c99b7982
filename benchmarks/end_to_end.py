"""How long until an adapter as good as the grid's best? adaptune's default, and the stock stack's grid.

    python benchmarks/end_to_end.py --data-dir ../data --tasks sms_spam cf_global_warming --out end_to_end.md

The grid's best validation score of each task is in record_grid.py's record. adaptune's default search runs on
the same rows, from nothing, with a few seeds; the clock says when it was within 0.5 points of that. The stock
stack (Ray Tune's grid, `adapters` + Trainer, MLflow callback) runs one trial of each size for a few epochs;
its grid is those epochs multiplied.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from material import MINILM, backbone_folder, describe_rows, read_rows, write_rows
from peer_env import PACKAGES, PEER, add_cache_option, peer_python
from record_grid import GRID, LIMIT, MAX_TOKENS, OUT
from ruamel.yaml import YAML
from search_quality import WITHIN, read_record
from tables import Report, versions_in

from search.record import Trial
from search.storage import Storage
from search.study import Record

SIZES, RATES, EPOCHS = GRID["adapter_size"], GRID["learning_rate"], GRID["epochs"]
TRIALS = len(SIZES) * len(RATES) * len(EPOCHS)  # the default search may try as many as the grid


def search_once(task: str, data_dir: Path, seed: int, target: float) -> tuple[float, list[Trial]]:
    """The default search on a task, from nothing to a target: when the command began, and its trials."""
    space = {
        "adapter_size": {"low": min(SIZES), "high": max(SIZES), "log": True},
        "learning_rate": {"low": min(RATES), "high": max(RATES), "log": True},
        "epochs": EPOCHS,
    }
    with tempfile.TemporaryDirectory() as folder:
        job: dict[str, Any] = {
            "name": "default",
            "backbone": MINILM,
            "tasks": [{"name": task, "limit": LIMIT}],
            "data_dir": str(data_dir),
            "storage": folder,
            "max_tokens": MAX_TOKENS,
            "space": space,
            "search": {"trials": TRIALS, "seed": seed},
            "confirm": "none",
            "budget": {"target": target},
        }
        path = Path(folder, "job.yaml")
        with path.open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(job, file)
        command = [Path(sys.executable).parent / "adaptune", "run", path]
        began = time.time()
        subprocess.run(command, check=True, stdout=sys.stderr)
        with Record(Storage(folder)) as record:
            (study,) = record.studies(job["name"])
            return began, [trial for trial in study.trials() if trial.score is not None]


def seconds_to(score: float, began: float, trials: list[Trial]) -> tuple[float, int] | None:
    """When an epoch first gave the score, and how many epochs had been trained by then; None: never."""
    epochs = sorted((epoch for trial in trials for epoch in trial.epochs), key=lambda e: e.finished_at)
    for count, epoch in enumerate(epochs, start=1):
        if epoch.score >= score:
            return epoch.finished_at - began, count
    return None


def stock_grid(
    options: argparse.Namespace, rows: Path, peer: Path
) -> tuple[dict[int, float], dict[int, float]]:
    """Seconds of an epoch and of a trial's start by adapter size, two trials at a time with one core each."""
    settings = {
        "rows": str(rows),
        "backbone_folder": backbone_folder(MINILM),
        "adapter_sizes": SIZES,
        "learning_rate": RATES[1],
        "epochs": options.stock_epochs,
        "batch_size": 32,
        "max_tokens": MAX_TOKENS,
        "precision": "fp32",
        "threads": 1,
        "seed": 0,
    }
    script = PEER / "grid_adapters.py"
    done = subprocess.run(
        [peer, script, json.dumps(settings)], check=True, stdout=subprocess.PIPE, text=True, cwd=rows
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
    epochs = {line["adapter_size"]: median(line["seconds"]) for line in lines}
    return epochs, {line["adapter_size"]: line["setup"] for line in lines}


def measure(options: argparse.Namespace, name: str, peer: Path) -> tuple[list[str], str]:
    """A task's row of the table, and its description."""
    data = read_rows(name, options.data_dir, LIMIT)
    best = read_record(OUT)[name][0].best
    target = best - WITHIN
    found = []
    for seed in options.seeds:
        began, trials = search_once(name, options.data_dir.resolve(), seed, target)
        found.append(seconds_to(target, began, trials))
    with tempfile.TemporaryDirectory() as folder:
        epoch_seconds, setup_seconds = stock_grid(options, write_rows(data, Path(folder)), peer)
    one_by_one = sum(
        setup_seconds[size] + epochs * epoch_seconds[size]
        for size in SIZES
        for epochs in EPOCHS
        for _ in RATES
    )
    stock = one_by_one / options.cores
    middle = median(near[0] if near else math.inf for near in found)
    row = [
        data.task.name,
        f"{best:.4f}",
        " ".join(f"{near[0]:.0f}" if near else "never" for near in found),
        " ".join(str(near[1]) if near else "-" for near in found),
        str(len(SIZES) * len(RATES) * sum(EPOCHS)),
        f"{stock:.0f}",
        f"{stock / middle:.1f}x" if math.isfinite(middle) else "never",
    ]
    return row, describe_rows(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="holds <task>/train.parquet, …")
    parser.add_argument("--tasks", nargs="+", default=["sms_spam", "cf_global_warming"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the default search")
    parser.add_argument("--stock-epochs", type=int, default=2, help="measured for each adapter size")
    parser.add_argument("--cores", type=int, default=2, help="stock trials at a time, one core each")
    parser.add_argument("--out", type=Path, help="write the table there, as markdown")
    add_cache_option(parser)
    options = parser.parse_args()
    peer = peer_python(options.peer_cache)
    report = Report("End to end: as good as the grid's best")
    report.facts["Peer's versions"] = versions_in(peer, PACKAGES)
    rows, tasks = [], []
    for name in options.tasks:
        row, described = measure(options, name, peer)
        rows.append(row)
        tasks.append(described)
    report.facts["Tasks"] = "; ".join(tasks) + f"; MiniLM, texts of {MAX_TOKENS} tokens"
    columns = [
        "task",
        "grid's best",
        "default within 0.5 points of it after, s, by seed",
        "epochs by then",
        "epochs of the grid",
        "stock grid, s (multiplied)",
        "stock grid over the median default",
    ]
    report.add_table(columns, rows)
    report.notes = [
        f"The grid: sizes {SIZES} x learning rates {RATES} x epochs {EPOCHS}; its best is the best "
        "validation score of any epoch in the record.",
        f"The default may try {TRIALS} configurations of ranges with the grid's ends. Its seconds run from "
        "the start of the command, Python and Ray included.",
        f"The stock stack was measured on {options.stock_epochs} epoch(s) of one trial for each size, "
        f"{options.cores} trials at a time on one core each, and multiplied: (start of a trial + epochs x "
        "seconds of an epoch with its validation) summed over the grid, over the trials at a time.",
    ]
    report.show(options.out)


if __name__ == "__main__":
    main()
