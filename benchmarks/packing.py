"""How many training steps a second does a pack give, beside every other way to use a GPU?

    python benchmarks/packing.py --quick --out packing.md              # 7 minutes
    python benchmarks/packing.py --out packing.md                      # all counts
    python benchmarks/packing.py --device cpu --shapes tiny tiny-real  # does it run?

Needs torch, transformers, numpy, safetensors and pyarrow alone, and runs from a checkout. Random weights,
random tokens; adapters of sizes 8 to 256 in turn, the paper's two a layer, layer norms and head trained, the
encoder's own dropout, AdamW, clipping, batches of 32. Each row is written as soon as it is there.

Lengths are fixed, or real: those of SMS spam's messages (recorded/sms_spam_lengths.json), every side in
batches of like length. Sides:

- one eager trial: the encoder with the adapters as plain modules and every weight in fp32 under autocast,
  torch's dropout and AdamW, `clip_grad_norm_`; no logging, no evaluation.
- one tuned trial: the same with frozen weights in bf16, compiled, torch's SDPA, fused AdamW.
- K processes: K eager trials at once on the one GPU, as fractional GPUs of a scheduler do; under MPS too
  where NVIDIA's control daemon is installed.
- a pack, plain: adaptune's, K trials, without kernels of its own and recorded passes. A trial-step is one
  trial's step on its own texts.
- a pack: the same with them. Its first step is taken in a new process: with no compiled kernels on disk
  (cold), and once more with those of the first (cached).
"""

import argparse
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout where nothing is installed

import torch
from matrix_rate import matrix_rate
from packing_sides import BATCH, SHAPES, SIZES, Shape, Step, eager_step, mean_tokens, pack_step, wait
from tables import machine, versions
from torch import multiprocessing

WARM_STEPS = 4  # passes are recorded when a shape comes for the second time
REPEATS = 3
COLUMNS = (
    *("side", "K", "trial-steps a second", "over one eager trial", "of the matrix rate"),
    *("real tokens a second", "peak GiB", "first step, s"),
)


# What --quick measures: of each shape the packs' counts, the processes' counts, and whether the tuned trial.
QUICK: dict[str, tuple[tuple[int, ...], tuple[int, ...], bool]] = {
    "base-128": ((1, 8, 32), (4, 8), True),
    "base-32": ((32,), (4,), False),
    "base-real": ((32,), (), False),
    "large-128": ((8,), (), False),
}


def rate(step: Step, device: torch.device, steps: int) -> list[float]:
    """Calls a second, `REPEATS` times over."""
    for _ in range(WARM_STEPS):
        step()
    found = []
    for _ in range(REPEATS):
        wait(device)
        started = time.perf_counter()
        for _ in range(steps):
            step()
        wait(device)
        found.append(steps / (time.perf_counter() - started))
    return found


def _work(shape: Shape, device: torch.device, size: int, steps: int, barrier: Any, rates: Any) -> None:
    """One of K processes: ready, then all at once."""
    step = eager_step(shape, device, size)
    for _ in range(WARM_STEPS):
        step()
    wait(device)
    barrier.wait()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    wait(device)
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


@contextlib.contextmanager
def multi_process_service() -> Iterator[bool]:
    """NVIDIA MPS for the length of a block, in folders of its own; False where it is not there."""
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        yield False
        return
    with tempfile.TemporaryDirectory() as folder:
        ours = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        os.environ.update(ours)
        started = subprocess.run([control, "-d"], check=False, capture_output=True).returncode == 0
        try:
            yield started
        finally:
            if started:
                subprocess.run([control], input="quit\n", text=True, check=False, capture_output=True)
            for name in ours:
                del os.environ[name]


def first_step_seconds(name: str, device: torch.device, places: int, cache: Path) -> float | None:
    """From a pack's making to the end of its first step, in a new process; kernels are kept in the cache."""
    command = [
        sys.executable,
        __file__,
        "--device",
        device.type,
        "--first-step",
        name,
        "--places",
        str(places),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "TRITON_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    return float(done.stdout.split()[-1])


def print_first_step(name: str, device: torch.device, places: int) -> None:
    """What `first_step_seconds` starts."""
    torch.zeros(1, device=device)  # the device's own start is no part of it
    started = time.perf_counter()
    pack_step(SHAPES[name], device, places=places, steps=1, fused=True)()
    wait(device)
    print(time.perf_counter() - started)


def step_flops(shape: Shape) -> float:
    """The frozen products of one trial-step: forward, and backward for the input alone; of real tokens."""
    return 2 * 2 * BATCH * mean_tokens(shape) * shape.layers * 12 * shape.width**2


class Table:
    """Rows of one shape, on the terminal and at the end of a file as soon as they are there."""

    def __init__(self, name: str, shape: Shape, device: torch.device, out: Path | None) -> None:
        self._shape, self._device, self._out = shape, device, out
        tokens = round(BATCH * mean_tokens(shape))
        self.matrix = matrix_rate(tokens, shape.width, "bf16", device=device.type)
        self._alone = 0.0
        self.write(
            f"\n### {name}\n\nMatrix rate {self.matrix / 1e12:.2f} TFLOP/s in bf16, of {tokens} tokens.\n"
        )
        self.head()

    def head(self) -> None:
        self.write(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")

    def write(self, text: str) -> None:
        print(text, flush=True)
        if self._out is not None:
            with self._out.open("a", encoding="utf-8") as file:
                file.write(text + "\n")

    def add(self, side: str, count: int, rates: Sequence[float] | None, *, first: str = "-") -> None:
        """A side's row; no rates: it did not fit."""
        if not rates:
            self.write(f"| {side} | {count} | does not fit |" + " - |" * (len(COLUMNS) - 3))
            return
        middle = median(rates)
        self._alone = self._alone or middle
        peak = "-"
        if self._device.type == "cuda":
            peak = f"{torch.cuda.max_memory_allocated(self._device) / 2**30:.1f}"
        cells = (
            *(side, str(count), f"{middle:.1f} ({min(rates):.1f} to {max(rates):.1f})"),
            *(f"{middle / self._alone:.2f}x", f"{middle * step_flops(self._shape) / self.matrix:.0%}"),
            *(f"{middle * BATCH * mean_tokens(self._shape):,.0f}", peak, first),
        )
        self.write(f"| {' | '.join(cells)} |")


def measure(
    name: str,
    device: torch.device,
    places: Sequence[int],
    processes: Sequence[int],
    steps: int,
    *,
    out: Path | None,
    is_late: Callable[[], bool],
    with_first_step: bool = True,
) -> Table:
    """One shape's table. Once it is late, no further row is begun."""
    shape = SHAPES[name]
    table = Table(name, shape, device, out)

    alone = functools.partial(_row, table, device, steps, is_late)
    alone("one eager trial", lambda: eager_step(shape, device, 64))
    most = max(places)
    seconds: list[float | None] = []
    with tempfile.TemporaryDirectory() as cache:
        if with_first_step and not is_late():
            seconds = [first_step_seconds(name, device, most, Path(cache)) for _ in range(2)]
    told = " / ".join("failed" if one is None else f"{one:.1f}" for one in seconds)
    make = functools.partial(pack_step, shape, device, steps=WARM_STEPS + REPEATS * steps)
    for count in places:
        first = f"{told} (cold / cached)" if count == most and told else "-"
        alone("a pack", functools.partial(make, places=count, fused=True), count, first)
    plain = min(8, most)
    alone("a pack, plain", functools.partial(make, places=plain, fused=False), plain)
    for count in processes:
        _forget(device)
        if not is_late():
            found = shared_rate(shape, device, count, steps)
            table.add("processes", count, None if found is None else [found])
    with multi_process_service() as there:
        for count in processes if there else ():
            if not is_late():
                found = shared_rate(shape, device, count, steps)
                table.add("processes under MPS", count, None if found is None else [found])
    return table


def _row(
    table: Table,
    device: torch.device,
    steps: int,
    is_late: Callable[[], bool],
    side: str,
    make: Callable[[], Step],
    count: int = 1,
    first: str = "-",
) -> None:
    if is_late():
        table.write(f"| {side} | {count} | not begun: the time was up |" + " - |" * (len(COLUMNS) - 3))
        return
    _forget(device)
    try:
        found = [count * one for one in rate(make(), device, steps)]
    except torch.OutOfMemoryError:
        found = []
    table.add(side, count, found, first=first)


def _forget(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shapes", nargs="+", choices=sorted(SHAPES))
    parser.add_argument("--places", nargs="+", type=int)
    parser.add_argument("--processes", nargs="*", type=int)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="the rows of the aims alone, in 7 minutes")
    parser.add_argument("--minutes", type=float, help="begin no row after so many; --quick: 6")
    parser.add_argument("--no-first-step", action="store_true", help="no new processes that time it")
    parser.add_argument("--out", type=Path, help="write the tables there, as markdown, row by row")
    parser.add_argument("--first-step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.first_step:
        print_first_step(options.first_step, device, options.places[0])
        return
    minutes = options.minutes or (6 if options.quick else float("inf"))
    late = time.monotonic() + 60 * minutes
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    facts = {"Machine": machine(), "GPU": where, "Versions": versions(("torch", "transformers", "numpy"))}
    lines = [f"- {key}: {value}" for key, value in facts.items()]
    heading = "\n".join(["## Packs: trial-steps a second", "", *lines])
    print(heading)
    if options.out is not None:
        options.out.write_text(heading + "\n", encoding="utf-8")
    tables = {}
    for name in options.shapes or list(QUICK):
        places, processes, _ = QUICK.get(name, ((1, 4), (2,), True))
        if not options.quick:
            places, processes = (1, 4, 8, 16, 32), (2, 4, 8)
        tables[name] = measure(
            name,
            device,
            options.places or places,
            processes if options.processes is None else options.processes,
            options.steps,
            out=options.out,
            is_late=lambda: time.monotonic() > late,
            with_first_step=not options.no_first_step,
        )
    for name, table in tables.items():  # last: torch compiles for a minute
        if not options.quick or QUICK.get(name, ((), (), True))[2]:
            table.write(f"\n### {name}, tuned\n")
            table.head()
            make = functools.partial(eager_step, SHAPES[name], device, 64, tuned=True)
            _row(table, device, options.steps, lambda: time.monotonic() > late, "one tuned trial", make)


if __name__ == "__main__":
    main()
