"""What does a further worker cost in memory? Ray workers of a search that hold one BERT_BASE-sized backbone.

    python benchmarks/memory.py --out memory.md

The workers take the backbone from the object store as a trial's worker does. Memory is the proportional set
size (PSS: a page that n processes share counts 1/n in each), summed over this process and all that Ray
started, so that the sum is what the machine holds; it is taken before the backbone is loaded, with all
imports done, and after.
"""

import argparse
import gc
import os
import tempfile
from pathlib import Path
from typing import Any

import ray
from material import save_random_encoder, toy_job
from tables import Report

from pipelines.encoder.backbone import Backbone, load_backbone
from search.local.session import start_ray
from search.plan import make_plan
from search.progress import Progress
from search.runner import _worker_context
from search.storage import Storage
from search.workers.context import WorkerContext, open_backbone


@ray.remote(num_cpus=0)  # as many as wanted on any machine
class Worker:
    """Holds what `WorkerTrial` holds, loaded the same way."""

    def __init__(self, context: WorkerContext) -> None:
        import pipelines.checkpoint
        import pipelines.packs.training  # noqa: F401 - a trial's imports, before anything is measured

        self._context = context
        self._backbone: Backbone | None = None

    def ready(self) -> int:
        return os.getpid()

    def load(self) -> int:
        """Load the backbone, and read all of it, as a forward pass does; returns its bytes."""
        self._backbone = open_backbone(self._context)
        gc.collect()
        tensors = [*self._backbone.model.parameters(), *self._backbone.model.buffers()]
        for tensor in tensors:
            tensor.sum()
        return sum(tensor.nbytes for tensor in tensors)


def megabytes() -> float:
    """PSS of this process and all of its descendants."""
    return sum(_pss(pid) for pid in _family(os.getpid())) / 1024


def _family(root: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:  # it ended meanwhile
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, left = set(), [root]
    while left:
        found.add(pid := left.pop())
        left += children.get(pid, [])
    return found


def _pss(pid: int) -> int:
    """In kilobytes."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def measure(context: WorkerContext, most: int) -> tuple[list[float], list[float], float, int]:
    """What the loads take in all and one by one, and a worker without a backbone, in MB; a backbone's bytes.

    All workers are there from the start, so that theirs and Ray's own memory is in no load's figure.
    """
    bare = megabytes()
    workers = [Worker.remote(context) for _ in range(most)]  # type: ignore[attr-defined]
    ray.get([worker.ready.remote() for worker in workers])
    empty = megabytes()
    totals, loads = [], []
    before, size = empty, 0
    for worker in workers:
        size = ray.get(worker.load.remote())
        after = megabytes()
        totals.append(after - empty)
        loads.append(after - before)
        before = after
    return totals, loads, (empty - bare) / most, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=("fp32", "bf16"))
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--out", type=Path, help="write the table there, as markdown")
    options = parser.parse_args()
    report = Report("Memory: workers on one machine that hold one backbone")
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        encoder = save_random_encoder(folder / "encoder", layers=options.layers, width=options.width)
        checkpoint = sum(tensor.nbytes for tensor in load_backbone(str(encoder)).model.parameters()) / 2**20
        for precision in options.precision:
            job = toy_job(folder, encoder, name=precision, precision=precision, space="default")
            storage = Storage(job.storage, job.database)
            Path(storage.path(job.name)).mkdir(parents=True)
            with start_ray(storage, job.name, cluster=False, warn=print):
                # As the runner makes it for its workers: whatever they share is in the object store now.
                context = _worker_context(make_plan(job), storage, Progress())
                totals, loads, worker, size = measure(context, options.workers)
            backbone = size / 2**20
            for number, (total, load) in enumerate(zip(totals, loads, strict=True), start=1):
                growth = "-" if number == 1 else f"{load / backbone:.1%}"
                rows.append([precision, number, f"{backbone:.0f}", f"{total:.0f}", f"{load:.0f}", growth])
                rows[-1].append(f"{worker:.0f}")
    columns = ["precision", "workers that hold it", "backbone, MB", "memory it takes in all, MB"]
    report.add_table([*columns, "by the last worker, MB", "of the backbone", "a bare worker, MB"], rows)
    report.facts["Backbone"] = (
        f"random weights, {options.layers} layers, d = {options.width}, {checkpoint:.0f} MB in fp32"
    )
    report.notes = [
        "PSS summed over the driver, Ray and all workers. A bare worker has all imports done and no "
        "backbone; it is in none of the other figures.",
        "Of the backbone: what one more worker adds, as a share of the backbone's size.",
    ]
    report.show(options.out)


if __name__ == "__main__":
    main()
