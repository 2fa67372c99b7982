"""Being a job's one driver: a sign of life in the record, and the time that has been searched."""

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NoReturn

from search.database import claim_lock
from search.errors import UserError, first_line
from search.liveness import HEARTBEAT_SECONDS, beat, driver_of, rest
from search.record import Driver
from search.storage import Storage
from search.study import Study

SETTLE_SECONDS = 2  # longer than it takes to read and write the record

log = logging.getLogger(__name__)


class SearchClock:
    """The time that a job has been searched for, over all its drivers; kept in the record."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._before = study.searched_seconds
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def note(self) -> None:
        """Write it to the record."""
        self._study.note_searched_seconds(self.seconds)


def _refuse(job: str, other: Driver) -> NoReturn:
    raise UserError(
        f"job {job!r} is being run already, by process {other.pid} on {other.host}. "
        "Wait for it or stop it first."
    )


def _give_way(studies: Sequence[Study]) -> None:
    """Of two that claimed a job at once, let the later one have it: a database that several machines or
    storages use has no lock of ours.
    """
    time.sleep(SETTLE_SECONDS)
    other = driver_of(studies)
    if other is not None and (other.host, other.pid) != (socket.gethostname(), os.getpid()):
        _refuse(studies[0].job, other)


@contextlib.contextmanager
def drive(storage: Storage, studies: Sequence[Study]) -> Iterator[SearchClock]:
    """Be the job's driver: refuse a second one, and show a sign of life until the end."""
    with claim_lock(storage):
        other = driver_of(studies)
        if other is not None:
            _refuse(studies[0].job, other)
        beat(studies[0])
    if storage.database is not None:
        _give_way(studies)
    clock = SearchClock(studies[0])
    ended = threading.Event()

    def show_life() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            try:
                beat(studies[0])
                clock.note()
            except Exception as error:  # a database that is away for a moment: the next sign may get there
                log.warning("the driver's sign of life could not be written: %s", first_line(error))

    thread = threading.Thread(target=show_life, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield clock
    finally:
        ended.set()
        thread.join()
        try:
            clock.note()
            rest(studies[0])
        except Exception as error:  # what ended the search counts; that its driver is gone is seen anyway
            log.debug("the end of the driver could not be written: %s", first_line(error))


def forget_dead_driver(storage: Storage, studies: Sequence[Study]) -> None:
    """Take the name of a driver that was killed at the very end, when all was done, from the record."""
    with claim_lock(storage):
        if studies[0].driver is not None and driver_of(studies) is None:
            rest(studies[0])
