"""One driver at a time."""

import os
import socket
import time
from pathlib import Path

import pytest
from studies import create, opened

from search.driver import drive
from search.errors import UserError
from search.storage import Storage


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


def test_a_driver_shows_that_it_lives_and_says_when_it_has_ended(tmp_path: Path) -> None:
    with opened(tmp_path) as record:
        study = create(record)
        with drive(Storage(str(tmp_path)), [study]):
            assert study.attributes["driver"]["pid"] == os.getpid()
        assert study.attributes["driver"] is None
