"""How long until something trains? From `adaptune run` to the first training step, and between two trials.

    python benchmarks/startup.py --out startup.md

Every round is a job of a few trials of one step each, one trial at a time, in a new storage folder; a first
round that is not counted warms the file cache. The times are those of the epochs in the study: a trial's
training began `seconds` before its epoch's `finished_at`. The few rows that it validates on are counted as
part of what is between two trials.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from material import MINILM, read_rows, write_rows
from ruamel.yaml import YAML
from tables import Report, spread

from search.storage import Storage
from search.study import Record


def write_job(folder: Path, rows: Path, trials: int, cpus: int) -> Path:
    job: dict[str, Any] = {
        "name": "startup",
        "backbone": MINILM,
        "tasks": [
            {
                "name": "rows",
                "files": {split: str(rows / f"{split}.jsonl") for split in ("train", "validation", "test")},
                "limit": {"train": 32, "validation": 8, "test": 8},
            }
        ],
        "space": {
            "adapter_size": 64,
            "learning_rate": {"low": 1e-4, "high": 1e-3, "log": True},
            "epochs": 1,
            "batch_size": 32,
        },
        "search": {"trials": trials},
        "confirm": "none",
        "resources": {"cpus": cpus, "concurrent": 1},
        "storage": str(folder / "runs"),
    }
    path = folder / "job.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(job, file)
    return path


def run_once(job: Path) -> tuple[float, list[float], list[tuple[str, float]]]:
    """Seconds to the first step, seconds between trials, and when each line was printed."""
    command = [Path(sys.executable).parent / "adaptune", "run", job]
    started = time.time()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[tuple[str, float]] = []

    def read() -> None:
        for line in process.stdout or ():
            lines.append((line.split("] ", 1)[-1].strip(), time.time() - started))

    reader = threading.Thread(target=read)
    reader.start()
    if process.wait():
        print(*(line for line, _ in lines), sep="\n", file=sys.stderr)
        raise SystemExit(f"adaptune run ended with {process.returncode}")
    reader.join()
    with Record(Storage(str(job.parent / "runs"), None)) as record:
        (study,) = record.studies("startup")
        epochs = [trial.epochs[0] for trial in study.trials()]
    began = [epoch.finished_at - epoch.seconds for epoch in epochs]
    ended = [epoch.finished_at for epoch in epochs]
    between = [after - before for before, after in zip(ended, began[1:], strict=False)]
    return began[0] - started, between, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="holds sms_spam/train.parquet, …; default: BBC News")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=5, help="of each round")
    parser.add_argument("--cpus", type=int, default=2, help="of a trial: torch's threads")
    parser.add_argument("--out", type=Path, help="write the table there, as markdown")
    options = parser.parse_args()
    data = read_rows("sms_spam", options.data_dir, {})
    report = Report("Start-up: from the command to the first step, and between two trials")
    first: list[float] = []
    between: list[float] = []
    lines: list[tuple[str, float]] = []
    for number in range(options.rounds + 1):
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            (folder / "rows").mkdir()
            job = write_job(folder, write_rows(data, folder / "rows"), options.trials, options.cpus)
            began, gaps, lines = run_once(job)
        if number:  # the first one warmed the file cache
            first.append(began)
            between += gaps
    report.add_table(
        ["what", "seconds: median (least to most)"],
        [
            ["from `adaptune run` to the first training step", spread(first)],
            ["from a trial's end to the next one's first training step, warm worker", spread(between, 3)],
        ],
    )
    shown = [[line, f"{at:.1f}"] for line, at in lines if at < first[-1]]
    report.add_table(["what the last round printed before", "at second"], shown)
    report.facts["Task"] = f"{data.task.name}, 32 training rows: one step a trial; MiniLM"
    report.show(options.out)


if __name__ == "__main__":
    main()
