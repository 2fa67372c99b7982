"""One driver at a time."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from studies import create, opened

from search.driver import drive
from search.errors import UserError
from search.storage import Storage
from search.study import driver_of


def test_a_second_driver_of_a_job_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    with opened(tmp_path) as record:
        study = create(record)
        study.note("driver", {"host": socket.gethostname(), "pid": os.getppid(), "time": time.time()})
        with (
            pytest.raises(UserError, match=f"by process {os.getppid()}") as caught,
            drive(Storage(str(tmp_path)), [study]),
        ):
            pytest.fail("two drivers")
        assert "Wait for it or stop it" in str(caught.value)


def test_a_killed_driver_that_its_parent_has_not_waited_for_is_dead(tmp_path: Path) -> None:
    """A container without an init keeps such processes: the job could not be resumed for a minute."""
    driver = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with opened(tmp_path) as record:
        study = create(record)
        study.note("driver", {"host": socket.gethostname(), "pid": driver.pid, "time": time.time()})
        assert driver_of([study]) is not None
        driver.kill()
        os.waitid(os.P_PID, driver.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has taken note
        assert driver_of([study]) is None
    driver.communicate()


def test_a_driver_shows_that_it_lives_and_says_when_it_has_ended(tmp_path: Path) -> None:
    with opened(tmp_path) as record:
        study = create(record)
        with drive(Storage(str(tmp_path)), [study]):
            assert study.attributes["driver"]["pid"] == os.getpid()
        assert study.attributes["driver"] is None
