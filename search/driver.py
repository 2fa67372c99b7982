"""Being a job's one driver: a sign of life in the record, and the time that has been searched."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NoReturn

from search.database import claim_lock
from search.errors import TakenOver, UserError, first_line
from search.liveness import HEARTBEAT_SECONDS, WATCH_SECONDS, is_alive, new_driver, process_lives
from search.record import Driver
from search.storage import Storage
from search.study import Study

SETTLE_SECONDS = 2  # longer than it takes to read and write the record

log = logging.getLogger(__name__)


class SearchClock:
    """The time that a job has been searched for, over all its drivers; kept in the record.

    Attributes:
        taken_by: the other driver whose sign of life stands in the place of ours; None while it is ours.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._before = study.searched_seconds
        self._started = time.monotonic()
        self.taken_by: Driver | None = None

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def note(self) -> None:
        """Write it to the record."""
        self._study.note_searched_seconds(self.seconds)

    def check(self) -> None:
        """Raise TakenOver where another process drives the job now."""
        if self.taken_by is not None:
            raise TakenOver(
                f"job {self._study.job!r} is driven by process {self.taken_by.pid} on {self.taken_by.host} "
                "now: its sign of life stands in the record in the place of ours. This process stops here; "
                "what it recorded is kept, and that one goes on with it."
            )


@contextlib.contextmanager
def drive(
    storage: Storage, studies: Sequence[Study], *, say: Callable[[str], None] = lambda _: None
) -> Iterator[SearchClock]:
    """Be the job's driver: refuse a second one, and show a sign of life until the end.

    Args:
        say: told if it takes a while to see whether another driver lives.

    Raises:
        UserError: another one drives the job.
        TakenOver: another one has taken the job over meanwhile, as from a driver that it took for dead.
    """
    study, ours = studies[0], new_driver()
    dead = _refuse_living(study, say)
    with claim_lock(storage):
        sign = study.driver
        if sign is not None and sign != dead:
            _refuse(study.job, sign)
        study.note_driver(ours)
    if storage.database is not None:
        _give_way(study, ours)
    clock = SearchClock(study)
    with _showing_life(study, ours, clock):
        try:
            yield clock
        except BaseException as error:
            if clock.taken_by is not None and not isinstance(error, TakenOver):
                clock.check()
            raise
        clock.check()


def forget_dead_driver(storage: Storage, studies: Sequence[Study]) -> None:
    """Take the name of a driver that was killed at the very end, when all was done, from the record."""
    with claim_lock(storage):
        sign = studies[0].driver
        if sign is not None and process_lives(sign) is False:
            studies[0].note_driver(None)


def _refuse_living(study: Study, say: Callable[[str], None]) -> Driver | None:
    """The last sign of a driver that is dead; None where there is none. Raises UserError for a living one."""
    sign = study.driver
    if sign is None:
        return None
    if process_lives(sign) is None:
        say(
            f"{study.job}: process {sign.pid} on {sign.host} was its driver; looking for {WATCH_SECONDS} s "
            "whether it still is"
        )
    if is_alive(sign, lambda: study.driver):
        _refuse(study.job, sign)
    return sign


def _refuse(job: str, other: Driver) -> NoReturn:
    raise UserError(
        f"job {job!r} is being run already, by process {other.pid} on {other.host}. "
        "Wait for it or stop it first."
    )


def _give_way(study: Study, ours: Driver) -> None:
    """Of two that claimed a job at once, let the later one have it: a database that several machines or
    storages use has no lock of ours.
    """
    time.sleep(SETTLE_SECONDS)
    sign = study.driver
    if sign is not None and sign.id != ours.id:
        _refuse(study.job, sign)


@contextlib.contextmanager
def _showing_life(study: Study, ours: Driver, clock: SearchClock) -> Iterator[None]:
    """Write signs of life from a thread, as long as none of another driver stands there."""
    ended = threading.Event()
    main = threading.main_thread()
    interrupts = threading.current_thread() is main

    def show_life() -> None:
        sign = ours
        while not ended.wait(HEARTBEAT_SECONDS):
            try:
                there = study.driver
                if there is not None and there.id != ours.id:
                    clock.taken_by = there
                    break
                sign = replace(sign, beat=sign.beat + 1, time=time.time())
                study.note_driver(sign)
                clock.note()
            except Exception as error:  # a database that is away for a moment: the next sign may get there
                log.warning("the driver's sign of life could not be written: %s", first_line(error))
        if clock.taken_by is not None and interrupts and not ended.is_set():
            signal.pthread_kill(main.ident or 0, signal.SIGINT)  # ends the search in order

    thread = threading.Thread(target=show_life, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        try:
            there = study.driver
            if clock.taken_by is None and there is not None and there.id == ours.id:
                clock.note()
                study.note_driver(None)
        except Exception as error:  # what ended the search counts; that its driver is gone is seen anyway
            log.debug("the end of the driver could not be written: %s", first_line(error))
