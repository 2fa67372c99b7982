"""Who drives a job: a sign of life in its record, and whether whoever left it is still alive.

A process is known by a random id. On the machine and in the process namespace that it names, its process is
looked at. From anywhere else its pulse is felt: no two clocks are compared, and no host name is believed, as
containers may share one.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path

from search.record import Driver

HEARTBEAT_SECONDS = 10
WATCH_SECONDS = 30  # without a beat, after which a driver elsewhere is taken for dead
POLL_SECONDS = 1
FORGOTTEN_SECONDS = 86_400  # no clocks are so far apart: whose last sign is older is not waited for
FRESH_SECONDS = 60  # by the clock: what is shown of a driver elsewhere while nobody waits for its pulse


def new_driver() -> Driver:
    """This process as a driver, before its first beat."""
    return Driver(
        id=secrets.token_hex(8),
        host=socket.gethostname(),
        pid=os.getpid(),
        machine=machine(),
        started=_start_of(os.getpid()),
        beat=0,
        time=time.time(),
    )


def machine() -> str | None:
    """Where a process id means something: this boot of this kernel, this namespace. None without /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def is_alive(driver: Driver, read: Callable[[], Driver | None]) -> bool:
    """Whether a driver lives. Takes up to `WATCH_SECONDS` where it is not of this machine.

    Args:
        read: its sign of life as the record has it now.
    """
    seen = process_lives(driver)
    if seen is not None or time.time() - driver.time > FORGOTTEN_SECONDS:
        return bool(seen)
    deadline = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        sign = read()
        if sign is None:
            return False
        if (sign.id, sign.beat, sign.time) != (driver.id, driver.beat, driver.time):
            return True
    return False


def seems_alive(driver: Driver | None) -> bool:
    """The same at once, for showing: of a driver elsewhere, by the clocks."""
    if driver is None:
        return False
    seen = process_lives(driver)
    return abs(time.time() - driver.time) <= FRESH_SECONDS if seen is None else seen


def process_lives(driver: Driver) -> bool | None:
    """Whether a driver of this machine still runs; None where that cannot be seen from here.

    One that was stopped, or whose machine slept, gives no sign and goes on later; one that ended is dead at
    once.
    """
    here = machine()
    if here is None or driver.machine != here or driver.started is None:
        return None
    return _process_exists(driver.pid) and _start_of(driver.pid) == driver.started


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
