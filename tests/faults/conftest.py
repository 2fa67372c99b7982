"""One undisturbed run, which all others are compared with."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from aftermath import Reference, check_finished
from filelock import FileLock
from grids import NAME, TRIALS, write_grid
from processes import MARKS, Command, kill_all, marked


@dataclass(frozen=True)
class Undisturbed:
    """What the grid comes to when nothing happens to it, and how long that takes."""

    reference: Reference
    seconds: float


@pytest.fixture(autouse=True)
def _nothing_goes_on() -> Iterator[None]:
    """A test that fails leaves no search running beside the next one."""
    MARKS.clear()
    yield
    for mark in MARKS:
        kill_all(marked(mark))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Undisturbed:
    """Run once, also where tests run in several processes: whoever comes second waits for the first."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "undisturbed"
    with FileLock(f"{folder}.lock"):
        if not (taken := folder / "seconds").exists():
            write_grid(folder)
            started = time.monotonic()
            command = Command("run", f"{NAME}.yaml", folder=folder)
            command.wait(0)
            seconds = time.monotonic() - started
            check_finished(folder / "runs", NAME, trials=TRIALS, mark=command.mark)
            taken.write_text(str(seconds))
    return Undisturbed(Reference.of(folder / "runs", NAME), float(taken.read_text()))


@pytest.fixture(scope="session")
def reference(undisturbed: Undisturbed) -> Reference:
    return undisturbed.reference
