"""How many training steps a second does a pack give, beside single trials and processes that share a GPU?

    python benchmarks/packing.py --out packing.md            # BERT_BASE, 128 and 32 tokens; BERT_LARGE, 128
    python benchmarks/packing.py --device cpu --shapes tiny  # does it run?

Needs torch, transformers and numpy alone, and runs from a checkout. Random weights, random tokens without
padding; adapters of sizes 8 to 256 in turn, the paper's two a layer, layer norms and head trained, the
encoder's own dropout, AdamW, clipping. Sides, one after the other in one run:

- adaptune: K trials in one pack. A trial-step is one trial's optimizer step on its own 32 texts.
- one eager trial: the encoder with the adapters as plain modules and every weight in fp32 under autocast,
  torch's dropout and AdamW, `clip_grad_norm_`; no padding, no logging, no evaluation.
- K processes: the same K times at once on the one GPU, as fractional GPUs of a scheduler do.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout where nothing is installed

import numpy as np
import torch
from matrix_rate import matrix_rate
from tables import Report, spread
from torch import Tensor, multiprocessing, nn
from transformers import BertConfig, BertModel

from pipelines.config import TrainConfig
from pipelines.encoder.architectures import ARCHITECTURES
from pipelines.encoder.backbone import Backbone
from pipelines.encoder.tokens import Tokens
from pipelines.packs.adapter import BottleneckAdapter
from pipelines.packs.pack import Pack
from pipelines.packs.training import Training
from pipelines.tasks.encoded import EncodedTask

SIZES = (8, 16, 64, 256)
BATCH = 32
CLASSES = 3
WARM_STEPS = 3
REPEATS = 3


@dataclass(frozen=True)
class Shape:
    """An encoder's shape and the texts' length."""

    layers: int
    width: int
    heads: int
    tokens: int


SHAPES = {
    "base-128": Shape(12, 768, 12, 128),
    "base-32": Shape(12, 768, 12, 32),
    "large-128": Shape(24, 1024, 16, 128),
    "tiny": Shape(2, 64, 2, 16),
}


def random_encoder(shape: Shape, device: torch.device) -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
    )
    return BertModel(config).to(device).requires_grad_(False)


def random_task(shape: Shape, steps: int) -> EncodedTask:
    """Texts of one length, more than all steps use: no epoch ends while the clock runs."""
    generator = np.random.default_rng(0)
    count = BATCH * (steps + 1)

    def texts(count: int) -> Tokens:
        ids = generator.integers(1000, 30000, count * shape.tokens, dtype=np.int32)
        return Tokens(ids, np.arange(count + 1, dtype=np.int64) * shape.tokens, None)

    return EncodedTask(
        name="random",
        kind="classification",
        metric="accuracy",
        metrics=("accuracy",),
        positive=None,
        labels=tuple("abc"),
        max_tokens=shape.tokens,
        train=texts(count),
        train_targets=generator.integers(0, CLASSES, count),
        validation=texts(BATCH),
        validation_targets=generator.integers(0, CLASSES, BATCH),
    )


class EagerSite(nn.Module):
    """A projection with its dropout, and the adapter behind them."""

    def __init__(self, site: nn.Module, adapter: BottleneckAdapter) -> None:
        super().__init__()
        self.site, self.adapter = site, adapter

    def forward(self, x: Tensor) -> Tensor:
        return self.adapter(self.site(x))


class EagerTrial(nn.Module):
    """A trial as it is written down: plain modules around a frozen encoder."""

    def __init__(self, encoder: BertModel, size: int) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.config.hidden_size
        for layer in encoder.encoder.layer:
            for part in (layer.attention.output, layer.output):
                part.dropout = EagerSite(part.dropout, BottleneckAdapter(width, size))
        for module in encoder.modules():
            if isinstance(module, (nn.LayerNorm, BottleneckAdapter)):
                module.requires_grad_(True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.encoder(ids, attention_mask=mask).pooler_output)


def eager_step(shape: Shape, device: torch.device, size: int) -> Callable[[], None]:
    """One eager trial's step, ready to be called."""
    model = EagerTrial(random_encoder(shape, device), size).to(device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    ids = torch.randint(1000, 30000, (BATCH, shape.tokens), device=device)
    mask = torch.ones_like(ids)
    labels = torch.randint(0, CLASSES, (BATCH,), device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = nn.functional.cross_entropy(model(ids, mask), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def pack_step(shape: Shape, device: torch.device, places: int, steps: int) -> Callable[[], None]:
    """A pack's step, ready to be called."""
    backbone = Backbone(
        name="random",
        model=random_encoder(shape, device).eval(),
        tokenizer=None,
        architecture=ARCHITECTURES["bert"],
        has_pooler=True,
        fingerprint="random",
    ).stored("bf16")
    pack = Pack(backbone, pooling="pooler", precision="bf16")
    task = random_task(shape, steps)
    for place in range(places):
        config = TrainConfig(
            adapter_size=SIZES[place % len(SIZES)],
            learning_rate=1e-4,
            epochs=1,
            batch_size=BATCH,
            seed=place,
        )
        Training(backbone, task, config, pack=pack)
    return lambda: _no_end(pack.step())


def _no_end(ended: list[Any]) -> None:
    if ended:
        raise SystemExit(f"a trial ended while the clock ran: {ended[0].failure}")


def rate(step: Callable[[], None], device: torch.device, steps: int) -> list[float]:
    """Calls a second, `REPEATS` times over."""
    for _ in range(WARM_STEPS):
        step()
    found = []
    for _ in range(REPEATS):
        _wait(device)
        started = time.perf_counter()
        for _ in range(steps):
            step()
        _wait(device)
        found.append(steps / (time.perf_counter() - started))
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _work(shape: Shape, device: torch.device, size: int, steps: int, barrier: Any, rates: Any) -> None:
    """One of K processes: ready, then all at once."""
    step = eager_step(shape, device, size)
    for _ in range(WARM_STEPS):
        step()
    _wait(device)
    barrier.wait()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    rates.put(steps / (time.perf_counter() - started))


def shared_rate(shape: Shape, device: torch.device, processes: int, steps: int) -> float | None:
    """Steps a second of all of K processes together; None where they do not fit."""
    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_work, args=(shape, device, SIZES[number % len(SIZES)], steps, barrier, rates))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        time.sleep(0.2)
        if any(worker.exitcode for worker in workers):  # out of memory, most likely: the others would wait
            for worker in workers:
                worker.kill()
            return None
    return sum(rates.get() for _ in workers)


def step_flops(shape: Shape) -> float:
    """The frozen products of one trial-step: forward, and backward for the input alone."""
    return 2 * 2 * BATCH * shape.tokens * shape.layers * 12 * shape.width**2


def measure(
    shape: Shape, device: torch.device, places: Sequence[int], processes: Sequence[int], steps: int
) -> tuple[list[list[object]], float]:
    """The table's rows of one shape, and the matrix rate."""
    matrix = matrix_rate(BATCH * shape.tokens, shape.width, "bf16", device=device.type)
    alone = rate(eager_step(shape, device, 64), device, steps)
    rows: list[list[object]] = [_row("one eager trial", 1, alone, alone, shape, matrix, device)]
    for count in processes:
        _forget(device)
        found = shared_rate(shape, device, count, steps)
        if found is None:
            rows.append(["processes", count, "does not fit", "-", "-", "-"])
        else:
            rows.append(_row("processes", count, [found], alone, shape, matrix, None))
    for count in places:
        _forget(device)
        try:
            step = pack_step(shape, device, count, WARM_STEPS + REPEATS * steps)
            found_rates = [count * one for one in rate(step, device, steps)]
        except torch.OutOfMemoryError:
            rows.append(["adaptune, a pack", count, "does not fit", "-", "-", "-"])
            break
        rows.append(_row("adaptune, a pack", count, found_rates, alone, shape, matrix, device))
    return rows, matrix


def _row(
    side: str,
    count: int,
    rates: Sequence[float],
    alone: Sequence[float],
    shape: Shape,
    matrix: float,
    device: torch.device | None,
) -> list[object]:
    peak = "-"
    if device is not None and device.type == "cuda":
        peak = f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f}"
    share = median(rates) * step_flops(shape) / matrix
    return [side, count, spread(rates), f"{median(rates) / median(alone):.2f}x", f"{share:.0%}", peak]


def _forget(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--shapes", nargs="+", choices=sorted(SHAPES), default=["base-128", "base-32", "large-128"]
    )
    parser.add_argument("--places", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--processes", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, help="write the tables there, as markdown")
    options = parser.parse_args()
    device = torch.device(options.device)
    report = Report("Packs: trial-steps a second")
    if device.type == "cuda":
        report.facts["GPU"] = torch.cuda.get_device_name(device)
    columns = ["side", "K", "trial-steps a second", "over one eager trial", "of the matrix rate", "peak GiB"]
    for name in options.shapes:
        rows, matrix = measure(SHAPES[name], device, options.places, options.processes, options.steps)
        report.facts[f"Matrix rate, {name}"] = f"{matrix / 1e12:.2f} TFLOP/s in bf16"
        report.add_table([name, *columns[1:]], rows)
    report.notes = [
        "Batch 32; base-128: BERT_BASE's shape, 128 tokens; large-128: BERT_LARGE's.",
        "Of the matrix rate: the frozen encoder's products alone count as work.",
    ]
    report.show(options.out)


if __name__ == "__main__":
    main()
