"""Who drives a job: a sign of life in its record."""

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from search.record import Driver
from search.study import Study

HEARTBEAT_SECONDS = 10
DEAD_AFTER_SECONDS = 60  # without a heartbeat


def beat(study: Study) -> None:
    """Say in a study that this process is its job's driver, and alive."""
    pid = os.getpid()
    study.note_driver(Driver(socket.gethostname(), pid, time=time.time(), started=_start_of(pid)))


def rest(study: Study) -> None:
    """Say that the job has no driver any more."""
    study.note_driver(None)


def driver_of(studies: Sequence[Study]) -> Driver | None:
    """The living driver of a job, by its last sign, or None.

    On another machine a driver lives as long as its last sign is fresh. On this one its process counts: one
    that was stopped, or whose machine slept, gives no sign and goes on later; one that ended is dead at once.
    """
    driver = studies[0].driver if studies else None
    if driver is None:
        return None
    fresh = time.time() - driver.time <= DEAD_AFTER_SECONDS
    if driver.host != socket.gethostname():
        return driver if fresh else None
    if not _process_exists(driver.pid):
        return None
    started = _start_of(driver.pid)
    if started is None or driver.started is None:
        return driver if fresh else None
    return driver if started == driver.started else None


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # One that ended and was not waited for, as in a container without an init, answers signals too.
    return next(iter(_stat(pid)), "") != "Z"


def _start_of(pid: int) -> str | None:
    """When a process was started, by the kernel's clock: an id may be given again. None without /proc."""
    stat = _stat(pid)
    return stat[19] if len(stat) > 19 else None


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from the process's state on; empty where there is no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
