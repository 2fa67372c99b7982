"""A small search in which everything is settled beforehand: a grid, one seed, fp32, no early ends.

Whatever happens on the way, each epoch of each configuration has to give what it gives undisturbed.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from jobs import write_job

NAME = "topics"
EPOCHS = 24
SPACE = {"adapter_size": [2, 4, 8], "learning_rate": [3e-3, 1e-2], "epochs": [EPOCHS], "batch_size": [128]}
SEARCH = {"trials": 6, "sampler": "grid", "scheduler": "none", "seed": 1}
TRIALS = 6


def write_grid(folder: Path, **changes: Any) -> Path:
    """The job file `topics.yaml` in a folder: two trials at a time, in some twenty seconds."""
    grid = {"space": SPACE, "search": SEARCH, "precision": "fp32", "resources": {"concurrent": 2}}
    return write_job(folder, **{**grid, **changes})


def count_epochs(storage: Path) -> int:
    """How many epochs the record has: read beside its driver, without a lock."""
    if not (storage / "studies.db").exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{storage}/studies.db?mode=ro", uri=True, timeout=30)) as database:
            (count,) = database.execute("SELECT count(*) FROM trial_intermediate_values").fetchone()
            return int(count)
    except sqlite3.OperationalError:  # its tables are being made
        return 0


def checkpoints_of(storage: Path) -> list[Path]:
    return sorted((storage / NAME / "checkpoints").rglob("*.safetensors"))


def cut_short(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
