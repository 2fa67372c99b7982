"""One driver at a time."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from studies import create, opened

from search import driver
from search.driver import drive, forget_dead_driver
from search.errors import UserError
from search.liveness import DEAD_AFTER_SECONDS, beat, driver_of
from search.record import Driver
from search.storage import Storage


def test_a_second_driver_of_a_job_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    with opened(tmp_path) as record:
        study = create(record)
        study.note_driver(Driver(socket.gethostname(), os.getppid(), time.time()))
        with (
            pytest.raises(UserError, match=f"by process {os.getppid()}") as caught,
            drive(Storage(str(tmp_path)), [study]),
        ):
            pytest.fail("two drivers")
        assert "Wait for it or stop it" in str(caught.value)


def test_a_killed_driver_that_its_parent_has_not_waited_for_is_dead(tmp_path: Path) -> None:
    """A container without an init keeps such processes: the job could not be resumed for a minute."""
    killed = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with opened(tmp_path) as record:
        study = create(record)
        study.note_driver(Driver(socket.gethostname(), killed.pid, time.time()))
        assert driver_of([study]) is not None
        killed.kill()
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has taken note
        assert driver_of([study]) is None
    killed.communicate()


def test_a_driver_shows_that_it_lives_and_says_when_it_has_ended(tmp_path: Path) -> None:
    with opened(tmp_path) as record:
        study = create(record)
        with drive(Storage(str(tmp_path)), [study]):
            assert study.driver.pid == os.getpid()
        assert study.driver is None


def test_a_driver_killed_at_the_very_end_is_forgotten_and_a_living_one_is_not(tmp_path: Path) -> None:
    with opened(tmp_path) as record:
        study = create(record)
        beat(study)
        sign = study.driver
        forget_dead_driver(Storage(str(tmp_path)), [study])
        assert study.driver == sign
        study.note_driver(replace(sign, started="1"))
        forget_dead_driver(Storage(str(tmp_path)), [study])
        assert study.driver is None


def test_a_driver_of_this_machine_that_was_stopped_for_long_is_alive_and_one_whose_id_was_given_again_is_dead(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as record:
        study = create(record)
        beat(study)
        sign = study.driver
        study.note_driver(replace(sign, time=time.time() - 10 * DEAD_AFTER_SECONDS))
        assert driver_of([study]) is not None
        study.note_driver(replace(sign, started="1"))
        assert driver_of([study]) is None


def test_of_two_that_claim_a_job_at_once_in_a_shared_database_the_later_one_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as record:
        study = create(record)
        other = Driver("another-host", 1, time.time())
        monkeypatch.setattr(driver.time, "sleep", lambda _: study.note_driver(other))
        shared = Storage("s3://bucket/runs", f"sqlite:///{tmp_path}/studies.db")
        with pytest.raises(UserError, match="by process 1 on another-host"), drive(shared, [study]):
            pytest.fail("two drivers")
        assert study.driver == other
