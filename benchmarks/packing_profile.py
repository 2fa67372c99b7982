"""Where does a step of a pack go?

    python benchmarks/packing_profile.py --shape base-128 --places 8              # on a GPU
    python benchmarks/packing_profile.py --shape base-128 --places 8 --plain      # without our kernels
    python benchmarks/packing_profile.py --device cpu --shape tiny --places 2     # does it run?

torch's profiler over a few steps after the first ones: milliseconds a step by kind of kernel, the longest,
and how long the processor takes to start them all. On a CPU the operations themselves take their place.
"""

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout where nothing is installed

import torch
from packing_sides import SHAPES, pack_step, wait
from tables import markdown_table
from torch.profiler import ProfilerActivity, profile

WARM_STEPS = 3
STEPS = 5
LONGEST = 25
# By a part of a kernel's name, the first that fits.
KINDS = {
    "matrix products": ("gemm", "gemv", "cutlass", "cublas", "mm", "matmul", "wgmma", "nvjet", "linear"),
    "attention": ("flash", "fmha", "attention", "softmax"),
    "copies and moves": (
        "copy",
        "memcpy",
        "memset",
        "transpose",
        "cat",
        "index",
        "gather",
        "scatter",
        "clone",
    ),
    "our own kernels": ("_forward", "_backward", "_drop", "_update", "_sum_"),
    "sums and norms": ("reduce", "norm", "sum"),
    "element by element": (
        "elementwise",
        "vectorized",
        "add",
        "mul",
        "gelu",
        "tanh",
        "foreach",
        "adam",
        "lerp",
    ),
}


def kind_of(name: str) -> str:
    lowered = name.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in lowered for part in parts)), "other")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="base-128")
    parser.add_argument("--places", type=int, default=8)
    parser.add_argument("--plain", action="store_true", help="without kernels of its own and recorded passes")
    parser.add_argument("--out", type=Path, help="write the tables there, as markdown")
    options = parser.parse_args()
    device = torch.device(options.device)
    step = pack_step(
        SHAPES[options.shape],
        device,
        places=options.places,
        steps=WARM_STEPS + 2 * STEPS,
        fused=not options.plain,
    )
    for _ in range(WARM_STEPS):
        step()
    wait(device)
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    launched = time.perf_counter() - started
    wait(device)
    whole = time.perf_counter() - started
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        for _ in range(STEPS):
            step()
        wait(device)
    kernels = [
        (event.key, (event.self_device_time_total if on_gpu else event.self_cpu_time_total), event.count)
        for event in profiled.key_averages()
    ]
    total = sum(microseconds for _, microseconds, _ in kernels) or 1.0
    kinds: dict[str, float] = defaultdict(float)
    for name, microseconds, _ in kernels:
        kinds[kind_of(name)] += microseconds
    by_kind = [
        [kind, f"{taken / STEPS / 1000:.2f}", f"{taken / total:.0%}"]
        for kind, taken in sorted(kinds.items(), key=lambda one: -one[1])
    ]
    longest = [
        [name[:80], f"{taken / STEPS / 1000:.2f}", f"{count / STEPS:.0f}"]
        for name, taken, count in sorted(kernels, key=lambda one: -one[1])[:LONGEST]
    ]
    how = "plain" if options.plain else "with kernels"
    text = "\n\n".join(
        [
            f"## A step of {options.places} trials, {options.shape}, {how}",
            f"{1000 * whole / STEPS:.1f} ms a step; started after {1000 * launched / STEPS:.1f} ms.",
            markdown_table(["kind", "ms a step", "of all"], by_kind),
            markdown_table(["kernel", "ms a step", "calls a step"], longest),
        ]
    )
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
