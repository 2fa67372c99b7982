"""Record a dense grid of adapter trials on many tasks, with the test score of every epoch.

    python benchmarks/record.py prepare --data-dir ../data --out prepared.safetensors    # any machine
    python benchmarks/record.py run prepared.safetensors --out trials.jsonl --minutes 9  # a GPU: torch alone
    python benchmarks/record.py table trials.jsonl                                       # the parquet

`prepare` writes tokens, targets and an encoder of at most 60 MiB. `run` trains packs of adapters, all tasks
coarsely first, then denser (STAGES): whatever it got through is whole grids. It writes each trial as it ends,
goes on where it was ended when run again, and says what is left; trials of the record that is there already
are not trained again, and `table` adds to it. No search sees a test score: they are there
to judge searches by (search_quality.py).
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout where nothing is installed

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from material import MINILM, SPLITS, read_rows
from numpy.typing import NDArray
from record_file import Prepared, PreparedTask, joined, read_prepared, write_prepared
from torch import Tensor

from pipelines.config import TrainConfig
from pipelines.encoder.backbone import Backbone
from pipelines.encoder.precision import resolve_precision
from pipelines.metrics import METRICS
from pipelines.packs.pack import Pack
from pipelines.packs.training import Training

OUT = Path(__file__).parent / "recorded" / "record.parquet"
TASKS = (
    *("cf_airline", "cf_emotion", "cf_global_warming", "cf_political_bias", "cf_progressive_opinion"),
    *("cf_us_economic_performance", "glue_cola", "glue_qnli", "glue_qqp", "glue_sst2", "glue_stsb"),
    *("news_aggregator", "newsgroups20", "sms_spam"),
)
ROWS = 2000  # of each split at most
MAX_TOKENS = 64
MEBIBYTES = 60  # the most that the prepared file may have
HALF, OWN = "half the depth", "the encoder's"  # values that the encoder decides
# Each stage adds values to the grid of those before it; all tasks go through one before the next begins.
STAGES: tuple[dict[str, tuple[Any, ...]], ...] = (
    {
        "seed": (0,),
        "adapter_size": (8, 64, 256),
        "learning_rate": (3e-5, 1.6e-4, 8.3e-4, 4.4e-3),
        "epochs": (3, 10),
        "first_layer": (0,),
        "dropout": (OWN,),
    },
    {"first_layer": (HALF,)},
    {"learning_rate": (7e-5, 3.6e-4, 1.9e-3, 1e-2)},
    {"seed": (1,)},
    {"seed": (2,)},
    {"epochs": (20,)},
    {"adapter_size": (16, 32, 128)},
    {"dropout": (0.0,)},
)
PARAMETERS = tuple(STAGES[0])
EPOCH = ("train_loss", "validation_loss", "score", "test_score")
Trial = tuple[Any, ...]  # a task's name, then values of PARAMETERS


def ordered_trials(tasks: Iterable[str], *, depth: int, dropout: float) -> Iterator[Trial]:
    """Every trial once, in the order of STAGES; in a stage those that can share a pass are together."""
    tasks, known = list(tasks), {name: list[Any]() for name in PARAMETERS}
    seen: set[Trial] = set()
    meant = {HALF: depth // 2, OWN: dropout}
    for stage in STAGES:
        for name, values in stage.items():
            known[name] += [meant.get(value, value) for value in values]
        grid = [trial for trial in itertools.product(tasks, *known.values()) if trial not in seen]
        seen.update(grid)
        yield from sorted(grid, key=lambda trial: trial[1 + PARAMETERS.index("first_layer")])


class RecordedTraining(Training):
    """A training that is scored on the test rows behind its validation set too, and keeps no weights."""

    def __init__(self, trial: Trial, task: PreparedTask, backbone: Backbone, pack: Pack) -> None:
        self.trial, self._test_targets = trial, task.test_targets
        self.test_scores: list[float] = []
        config = TrainConfig(**dict(zip(PARAMETERS, trial[1:], strict=True)))
        super().__init__(backbone, task.encoded, config, pack=pack)

    def end_epoch(self, outputs: NDArray[np.float64], trained: Mapping[str, Tensor]) -> None:
        own = len(outputs) - len(self._test_targets)
        super().end_epoch(outputs[:own], {})
        self.outputs = None
        scores = self.task.score(outputs[own:], self._test_targets)
        self.test_scores.append(METRICS[self.task.metric].signed(scores[self.task.metric]))

    def line(self) -> str:
        """The trial as it ended, in JSON."""
        epochs = [
            [result.train_loss, result.validation_loss, result.score, test]
            for result, test in zip(self.epochs, self.test_scores, strict=True)
        ]
        return json.dumps({"trial": self.trial, "diverged": self.failure is not None, "epochs": epochs})


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The trials of a file, each once; a last line that was cut off is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            read = json.loads(line)
        except ValueError:
            continue
        found[tuple(read["trial"])] = read
    return list(found.values())


def read_table(path: Path) -> list[dict[str, Any]]:
    """The trials of a record, as `read_lines` gives them."""
    found: dict[Trial, list[list[float]]] = {}
    for row in pq.read_table(path).to_pylist() if path.exists() else []:
        trial = (row["task"], *(row[name] for name in PARAMETERS))
        found.setdefault(trial, []).append([row[name] for name in EPOCH])
    return [{"trial": list(trial), "diverged": False, "epochs": own} for trial, own in found.items()]


def differences(path: Path, about: Mapping[str, Any]) -> list[str]:
    """In what the trials of a record are others than what was prepared; of none in nothing."""
    if not path.exists():
        return []
    before = json.loads(pq.read_schema(path).metadata[b"about"])
    return [key for key in ("encoder", "max_tokens", "rows") if before[key] != about[key]]


def train(
    prepared: Prepared,
    out: Path,
    *,
    device: torch.device,
    minutes: float,
    places: int,
    known: Iterable[Trial] = (),
) -> int:
    """Train what is neither known nor in `out` yet, `places` trials at a time; returns how many are left."""
    backbone = prepared.backbone
    every = list(ordered_trials(prepared.tasks, depth=backbone.depth, dropout=prepared.dropout))
    known = set(known)
    done = known | {tuple(one["trial"]) for one in read_lines(out)}
    queue = deque(trial for trial in every if trial not in done)
    precision = resolve_precision("auto", device)
    backbone = backbone.stored(precision)
    first_layer, epochs = 1 + PARAMETERS.index("first_layer"), 1 + PARAMETERS.index("epochs")
    begun, trained, told = time.monotonic(), 0, 0.0

    def is_worth(trial: Trial) -> bool:
        """Whether it would end in time, as fast as trials went so far."""
        spent = time.monotonic() - begun
        return spent + (spent / trained * trial[epochs] * places if trained else 0) < 60 * minutes

    with out.open("a", encoding="utf-8") as file:
        if out.stat().st_size and not out.read_bytes().endswith(b"\n"):
            file.write("\n")  # behind a line that was cut off
        while queue and is_worth(queue[0]):
            shared = queue[0][first_layer]
            pack = Pack(backbone, pooling=prepared.pooling, precision=precision, fused=True)
            running: list[RecordedTraining] = []
            while True:
                while (
                    queue and len(running) < places and queue[0][first_layer] == shared and is_worth(queue[0])
                ):
                    trial = queue.popleft()
                    running.append(RecordedTraining(trial, prepared.tasks[trial[0]], backbone, pack))
                if not running or time.monotonic() - begun > 60 * minutes:
                    break
                trained += len(pack.step())
                for one in [one for one in running if one.finished or one.failure is not None]:
                    running.remove(one)
                    if one in pack.members:
                        pack.leave(one)
                    file.write(one.line() + "\n")
                    file.flush()
                if time.monotonic() - told > 10:
                    told = time.monotonic()
                    so_far = f"{trained} epochs; {len(queue)} trials to begin"
                    print(f"[{told - begun:.0f} s] {so_far}", flush=True)
    spent = time.monotonic() - begun
    done = known | {tuple(one["trial"]) for one in read_lines(out)}
    left = sum(trial not in done for trial in every)
    print(f"{trained} epochs in {spent:.0f} s ({precision}); {left} of {len(every)} trials are left")
    return left


def write_table(lines: list[dict[str, Any]], out: Path, about: Mapping[str, Any]) -> int:
    """A row for each epoch of each trial that ended; returns how many rows."""
    rows = [
        {
            "task": task,
            **dict(zip(PARAMETERS, values, strict=True)),
            "epoch": number,
            **dict(zip(EPOCH, epoch, strict=True)),
        }
        for (task, *values), epochs in sorted(
            (one["trial"], one["epochs"]) for one in lines if not one["diverged"]
        )
        for number, epoch in enumerate(epochs, 1)
    ]
    schema = pa.schema(
        [
            ("task", pa.dictionary(pa.int32(), pa.string())),
            *((name, pa.int64()) for name in ("seed", "adapter_size")),
            ("learning_rate", pa.float64()),
            *((name, pa.int64()) for name in ("epochs", "first_layer")),
            ("dropout", pa.float64()),
            ("epoch", pa.int64()),
            *((name, pa.float32()) for name in ("train_loss", "validation_loss")),
            *((name, pa.float64()) for name in ("score", "test_score")),
        ],
        metadata={"about": json.dumps(about)},
    )
    out.parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), out, compression="zstd", compression_level=19)
    return len(rows)


def prepare(options: argparse.Namespace) -> None:
    from pipelines.encoder.backbone import load_backbone
    from pipelines.tasks.encoded import encode_held_out, encode_task

    backbone = load_backbone(options.encoder)
    tasks = []
    for name in options.tasks:
        data = read_rows(name, options.data_dir, dict.fromkeys(SPLITS, options.rows))
        encoded = encode_task(data, backbone, options.max_tokens)
        tasks.append(joined(encoded, *encode_held_out(data, backbone, options.max_tokens)["test"]))
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        check=False,
    )
    about = {
        "commit": commit.stdout.strip() or "unknown",
        "encoder": options.encoder,
        "max_tokens": options.max_tokens,
        "rows": {
            task.encoded.name: [
                len(task.encoded.train),
                len(task.encoded.validation_targets),
                len(task.test_targets),
            ]
            for task in tasks
        },
    }
    write_prepared(options.out, backbone, tasks, about)
    size = options.out.stat().st_size / 2**20
    print(f"{len(tasks)} tasks, {size:.1f} MiB in {options.out}")
    if size > MEBIBYTES:
        raise SystemExit(f"that is more than {MEBIBYTES} MiB: take fewer --rows or --tasks")


def run(options: argparse.Namespace) -> None:
    device = torch.device(options.device)
    prepared = read_prepared(options.prepared, device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    about = prepared.about | {"trained on": where, "torch": torch.__version__}
    options.out.with_suffix(".about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    same = not differences(options.known, about)
    known = [tuple(one["trial"]) for one in read_table(options.known)] if same else []
    train(prepared, options.out, device=device, minutes=options.minutes, places=options.places, known=known)


def table(options: argparse.Namespace) -> None:
    about = json.loads(options.trials.with_suffix(".about.json").read_text(encoding="utf-8"))
    if differ := differences(options.out, about):
        raise SystemExit(f"{options.out} is of another {', '.join(differ)}: name another --out")
    if options.out.exists():
        about["before"] = json.loads(pq.read_schema(options.out).metadata[b"about"])
    merged = {tuple(one["trial"]): one for one in (*read_table(options.out), *read_lines(options.trials))}
    lines = list(merged.values())
    rows = write_table(lines, options.out, about)
    diverged = sum(one["diverged"] for one in lines)
    size = options.out.stat().st_size / 1e6
    print(f"{len(lines)} trials, {diverged} diverged; {rows} epochs, {size:.2f} MB in {options.out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("prepare", help="write tokens, targets and weights")
    first.add_argument("--data-dir", type=Path, required=True, help="holds <task>/train.parquet, …")
    first.add_argument("--out", type=Path, required=True)
    first.add_argument("--tasks", nargs="+", default=TASKS)
    first.add_argument("--encoder", default=MINILM)
    first.add_argument("--rows", type=int, default=ROWS, help="of each split, at most")
    first.add_argument("--max-tokens", type=int, default=MAX_TOKENS)
    first.set_defaults(command=prepare)
    second = commands.add_parser("run", help="train; needs torch, transformers, numpy, safetensors, pyarrow")
    second.add_argument("prepared", type=Path)
    second.add_argument("--out", type=Path, required=True, help="a line for each trial; goes on where it is")
    second.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    second.add_argument("--minutes", type=float, default=float("inf"))
    second.add_argument("--places", type=int, default=64, help="trials at a time")
    second.add_argument("--known", type=Path, default=OUT, help="a record whose trials are there already")
    second.set_defaults(command=run)
    third = commands.add_parser("table", help="the trials as parquet")
    third.add_argument("trials", type=Path)
    third.add_argument("--out", type=Path, default=OUT)
    third.set_defaults(command=table)
    options = parser.parse_args()
    options.command(options)


if __name__ == "__main__":
    main()
