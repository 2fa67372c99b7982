"""One driver at a time."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from studies import create, opened

from search import driver
from search.driver import drive, forget_dead_driver
from search.errors import TakenOver, UserError
from search.liveness import new_driver
from search.storage import Storage


@pytest.fixture
def study(tmp_path):
    with opened(tmp_path) as record:
        yield create(record)


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path))


@pytest.fixture
def elsewhere():
    return replace(new_driver(), id="another", machine="another-boot/1", host="another-host", pid=1)


def test_a_second_driver_of_a_job_is_refused_and_told_who_the_first_is(study, storage):
    first = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    sign = replace(new_driver(), pid=first.pid, started=driver_start(first.pid))
    study.note_driver(sign)
    with (
        pytest.raises(UserError, match=f"by process {first.pid}.*Wait for it or stop it"),
        drive(storage, [study]),
    ):
        pytest.fail("two drivers")
    assert study.driver == sign
    first.communicate(b"\n")


def driver_start(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def test_a_driver_elsewhere_whose_pulse_is_felt_is_not_displaced(study, storage, elsewhere, monkeypatch):
    study.note_driver(elsewhere)
    monkeypatch.setattr(driver, "is_alive", lambda sign, read: read() == sign)
    said = []
    with (
        pytest.raises(UserError, match="by process 1 on another-host"),
        drive(storage, [study], say=said.append),
    ):
        pytest.fail("two drivers")
    assert "looking for 30 s" in said[0]
    assert study.driver == elsewhere


def test_a_dead_drivers_place_is_taken(study, storage, elsewhere, monkeypatch):
    study.note_driver(elsewhere)
    monkeypatch.setattr(driver, "is_alive", lambda *_: False)
    with drive(storage, [study]):
        assert study.driver.id != elsewhere.id


def test_of_two_that_take_a_dead_drivers_place_at_once_the_second_is_refused(
    study, storage, elsewhere, monkeypatch
):
    study.note_driver(elsewhere)
    faster = replace(elsewhere, id="a third", host="third-host")
    monkeypatch.setattr(driver, "is_alive", lambda *_: study.note_driver(faster) or False)
    with pytest.raises(UserError, match="on third-host"), drive(storage, [study]):
        pytest.fail("two drivers")


def test_a_driver_shows_that_it_lives_and_says_when_it_has_ended(study, storage, monkeypatch):
    monkeypatch.setattr(driver, "HEARTBEAT_SECONDS", 0.01)
    ours = threading.current_thread()
    with drive(storage, [study]) as clock:
        first = study.driver
        assert ours is threading.main_thread()
        while study.driver.beat < first.beat + 2:  # as long as it takes
            threading.Event().wait(0.01)
        assert study.driver.id == first.id
        assert clock.taken_by is None
    assert study.driver is None


def test_a_driver_that_finds_anothers_sign_stops_says_so_and_leaves_that_sign(
    study, storage, elsewhere, monkeypatch
):
    """As when two containers could not see each other, or one was frozen for long and taken for dead."""
    monkeypatch.setattr(driver, "HEARTBEAT_SECONDS", 0.01)
    taken = pytest.raises(TakenOver, match="driven by process 1 on another-host now")
    with taken, drive(storage, [study]):
        study.note_driver(elsewhere)
        threading.Event().wait(60)  # the signal ends it
    assert study.driver == elsewhere


def test_a_driver_killed_at_the_very_end_is_forgotten_and_a_living_one_is_not(study, storage):
    sign = new_driver()
    study.note_driver(sign)
    forget_dead_driver(storage, [study])
    assert study.driver == sign
    study.note_driver(replace(sign, started="1"))
    forget_dead_driver(storage, [study])
    assert study.driver is None


def test_of_two_that_claim_a_job_at_once_in_a_shared_database_the_later_one_has_it(
    tmp_path, study, elsewhere, monkeypatch
):
    monkeypatch.setattr(driver.time, "sleep", lambda _: study.note_driver(elsewhere))
    shared = Storage("s3://bucket/runs", f"sqlite:///{tmp_path}/studies.db")
    with pytest.raises(UserError, match="by process 1 on another-host"), drive(shared, [study]):
        pytest.fail("two drivers")
    assert study.driver == elsewhere
