"""How long until an adapter as good as the grid's best? adaptune's default, and the stock stack's grid.

    python benchmarks/end_to_end.py --data-dir ../data --tasks sms_spam cf_global_warming --out end_to_end.md

For each task: adaptune runs the whole grid once (kept under --storage, so a second run of this script finds
it) and tells the best validation score of it; then its default search runs, and the clock says when it was
within 0.5 points of that. The stock stack (Ray Tune's grid, `adapters` + Trainer, MLflow callback) runs one
trial of each size for a few epochs; its grid is those epochs multiplied.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from material import MINILM, SPLITS, backbone_folder, describe_rows, read_rows, write_rows
from peer_env import PACKAGES, PEER, add_cache_option, peer_python
from ruamel.yaml import YAML
from tables import Report, versions_in

from search.storage import Storage
from search.study import Record, TrialRecord

WITHIN = 0.005  # of the best score of the grid
SIZES, RATES = [8, 64, 256], [3e-5, 3e-4, 3e-3]


def run_job(name: str, rows: Path, storage: Path, keys: Mapping[str, Any]) -> tuple[float, list[TrialRecord]]:
    """`adaptune run` on a task's rows; returns when it began and the trials that ended well."""
    files = {split: str(rows / f"{split}.jsonl") for split in SPLITS}
    job = {
        "name": name,
        "backbone": MINILM,
        "tasks": [{"name": "rows", "files": files}],
        "storage": str(storage),
        **keys,
    }
    path = rows / f"{name}.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(job, file)
    began = time.time()
    subprocess.run([Path(sys.executable).parent / "adaptune", "run", path], check=True, stdout=sys.stderr)
    with Record(Storage(str(storage), None)) as record:
        (study,) = record.studies(name)
        return began, [trial for trial in study.trials() if trial.score is not None]


def seconds_to(score: float, began: float, trials: list[TrialRecord]) -> tuple[float, int] | None:
    """When an epoch first gave the score, and how many epochs had been trained by then; None: never."""
    epochs = sorted((epoch for trial in trials for epoch in trial.epochs), key=lambda e: e["finished_at"])
    for count, epoch in enumerate(epochs, start=1):
        if epoch["score"] >= score:
            return epoch["finished_at"] - began, count
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
        "max_tokens": 128,
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


def measure(options: argparse.Namespace, name: str, peer: Path, folder: Path) -> tuple[list[list[str]], str]:
    data = read_rows(name, options.data_dir, dict(zip(SPLITS, options.limit or (), strict=False)))
    rows = write_rows(data, folder)
    grid_space = {"adapter_size": SIZES, "learning_rate": RATES, "epochs": options.epochs}
    points = len(SIZES) * len(RATES) * len(options.epochs)
    grid = {"space": grid_space, "search": {"sampler": "grid", "scheduler": "none", "trials": points}}
    began, trials = run_job(f"grid-{data.task.name}", rows, options.storage, grid)
    best = max(trial.score for trial in trials)
    by_grid = seconds_to(best - WITHIN, min(t.started.timestamp() for t in trials), trials)

    space = {
        "adapter_size": {"low": min(SIZES), "high": max(SIZES), "log": True},
        "learning_rate": {"low": min(RATES), "high": max(RATES), "log": True},
        "epochs": options.epochs,
    }
    with tempfile.TemporaryDirectory() as fresh:  # a search from nothing, timed from the command's start
        search = {"space": space, "search": {"trials": options.trials, "seed": options.seed}}
        began, found = run_job("default", rows, Path(fresh), search)
    ours = seconds_to(best - WITHIN, began, found)

    epoch_seconds, setup_seconds = stock_grid(options, rows, peer)
    at_once = options.cores
    stock = sum(
        setup_seconds[size] + epochs * epoch_seconds[size]
        for size in SIZES
        for epochs in options.epochs
        for _ in RATES
    )
    stock /= at_once
    total_epochs = len(SIZES) * len(RATES) * sum(options.epochs)
    reached = "not reached" if ours is None else f"{ours[0]:.0f}"
    row = [data.task.name, f"{best:.4f}", f"{max(trial.score for trial in found):.4f}", reached]
    row += ["-" if ours is None else str(ours[1]), str(total_epochs)]
    row += ["-" if by_grid is None else f"{by_grid[0]:.0f}", f"{stock:.0f}"]
    row += ["-" if ours is None else f"{stock / ours[0]:.1f}x"]
    return [row], describe_rows(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, help="holds <task>/train.parquet, …; default: BBC News alone"
    )
    parser.add_argument("--tasks", nargs="+", default=["sms_spam", "cf_global_warming"])
    parser.add_argument("--epochs", type=int, nargs="+", default=[3, 10], help="the grid's lengths")
    parser.add_argument("--trials", type=int, default=18, help="of the default search")
    parser.add_argument("--seed", type=int, default=0, help="of the default search")
    parser.add_argument("--stock-epochs", type=int, default=2, help="measured for each adapter size")
    parser.add_argument("--cores", type=int, default=2, help="stock trials at a time, one core each")
    parser.add_argument("--limit", type=int, nargs=3, metavar="ROWS", help="train, validation, test")
    parser.add_argument("--storage", type=Path, default=Path("runs/end_to_end"), help="keeps the grids")
    parser.add_argument("--out", type=Path, help="write the table there, as markdown")
    add_cache_option(parser)
    options = parser.parse_args()
    peer = peer_python(options.peer_cache)
    report = Report("End to end: as good as the grid's best")
    report.facts["Peer's versions"] = versions_in(peer, PACKAGES)
    rows, tasks = [], []
    names = options.tasks if options.data_dir else ["bbc_news"]
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            more, described = measure(options, name, peer, Path(folder))
        rows += more
        tasks.append(described)
    report.facts["Tasks"] = "; ".join(tasks) + "; MiniLM"
    columns = [
        "task",
        "grid's best",
        "default's best",
        "default within 0.5 points after, s",
        "epochs by then",
    ]
    columns += ["epochs of the grid", "adaptune's own grid within 0.5 points after, s"]
    report.add_table([*columns, "stock grid, s (multiplied)", "stock grid over default"], rows)
    report.notes = [
        f"The grid: sizes {SIZES} x learning rates {RATES} x epochs {options.epochs}; its best is a "
        "validation score, found by running all of it with adaptune.",
        "The default's seconds run from the start of the command, Python and Ray included.",
        f"The stock stack was measured on {options.stock_epochs} epoch(s) of one trial for each size, "
        f"{options.cores} trials at a time on one core each, and multiplied: (start of a trial + epochs x "
        "seconds of an epoch with its validation) summed over the grid, over the trials at a time.",
    ]
    report.show(options.out)


if __name__ == "__main__":
    main()
