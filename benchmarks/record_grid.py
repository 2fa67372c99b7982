"""Record a whole grid of real trials on several tasks, for search_quality.py to replay.

    python benchmarks/record_grid.py --data-dir ../data --storage grid-runs

One job of adaptune itself: each task's grid with the sampler `grid` and no scheduler, so that every trial is
trained to its end. Ended by whatever, it goes on when it is run again. Writes recorded/grid.parquet,
a row for each epoch of each trial.
"""

import argparse
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from material import MINILM
from rich.console import Console

from search import SearchJob, run
from search.progress import ConsoleProgress
from search.storage import Storage
from search.study import Record

OUT = Path(__file__).parent / "recorded" / "grid.parquet"
TASKS = ["sms_spam", "cf_global_warming", "cf_airline", "glue_sst2", "news_aggregator"]
GRID = {"adapter_size": [8, 64, 256], "learning_rate": [3e-5, 3e-4, 3e-3], "epochs": [3, 10]}
LIMIT = {"train": 600, "validation": 500}  # rows
MAX_TOKENS = 48
NAME = "grid"


def grid_job(tasks: list[str], data_dir: Path, storage: Path, seed: int) -> SearchJob:
    """The job of one seed: tasks short enough for a CPU, with enough validation rows to tell trials apart."""
    return SearchJob.parse(
        {
            "name": f"{NAME}-{seed}",
            "backbone": MINILM,
            "tasks": [{"name": task, "limit": LIMIT} for task in tasks],
            "data_dir": str(data_dir),
            "storage": str(storage),
            "max_tokens": MAX_TOKENS,
            "space": GRID,
            "search": {"sampler": "grid", "scheduler": "none", "trials": 18, "seed": seed},
            "confirm": "none",
        },
        folder=Path.cwd(),
    )


def recorded_rows(storage: Path, job: str) -> list[dict[str, Any]]:
    """Every epoch of every trial that ended well."""
    with Record(Storage(str(storage))) as record:
        return [
            {
                "task": study.task,
                "seed": trial.seed,
                **trial.params,
                "trial": trial.number,
                "epoch": epoch.epoch,
                "score": epoch.score,
                "train_loss": epoch.train_loss,
                "validation_loss": epoch.validation_loss,
                "seconds": epoch.seconds,
            }
            for study in record.studies(job)
            for trial in study.trials()
            if trial.state == "complete"
            for epoch in trial.epochs
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="holds <task>/train.parquet, …")
    parser.add_argument("--storage", type=Path, required=True, help="the state: a next run goes on from it")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        job = grid_job(options.tasks, options.data_dir.resolve(), options.storage.resolve(), seed)
        run(job, source="record_grid.py", progress=ConsoleProgress(Console(stderr=True)))
        rows += recorded_rows(options.storage.resolve(), job.name)
        OUT.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), OUT, compression="zstd")
    print(f"{len(rows)} epochs in {OUT}")


if __name__ == "__main__":
    main()
