"""Whether a driver lives: its process where that is seen, else its pulse; no clock and no host name."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from search import liveness
from search.liveness import FORGOTTEN_SECONDS, FRESH_SECONDS, is_alive, new_driver, process_lives, seems_alive


@pytest.fixture
def ours():
    return new_driver()


@pytest.fixture
def elsewhere(ours):
    """A driver in another container: the same host name and a process id that lives here too."""
    return replace(ours, id="another", machine="another-boot/1")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Seconds pass as fast as they are slept."""
    clock = [0.0]
    monkeypatch.setattr(liveness.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(liveness.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))


def test_this_process_lives(ours):
    assert process_lives(ours) is True
    assert is_alive(ours, read=pytest.fail)


def test_a_process_that_has_ended_is_dead_at_once(ours):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not is_alive(replace(ours, pid=process.pid), read=pytest.fail)


def test_a_process_that_its_parent_has_not_waited_for_is_dead(ours):
    """A container without an init keeps such processes."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    sign = replace(ours, pid=process.pid, started=liveness._start_of(process.pid))
    assert process_lives(sign)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has taken note
    assert process_lives(sign) is False
    process.communicate()


def test_a_process_whose_id_was_given_again_is_dead(ours):
    assert process_lives(replace(ours, started="1")) is False


def test_a_stopped_process_of_this_machine_lives_however_old_its_last_sign_is(ours):
    assert is_alive(replace(ours, time=time.time() - 10 * FORGOTTEN_SECONDS), read=pytest.fail)


def test_a_driver_in_another_container_of_this_host_is_not_looked_for_among_our_processes(elsewhere):
    assert process_lives(elsewhere) is None


@pytest.mark.parametrize("hours", [-2, -0.02, 0, 0.02, 2])
def test_a_driver_elsewhere_lives_if_its_pulse_is_felt_whatever_its_clock_says(elsewhere, hours):
    sign = replace(elsewhere, time=time.time() + 3600 * hours)
    signs = iter([sign] * 12 + [replace(sign, beat=1, time=sign.time + 10)])
    assert is_alive(sign, read=lambda: next(signs))


@pytest.mark.parametrize("hours", [-2, -0.02, 0, 0.02, 2])
def test_a_driver_elsewhere_is_dead_if_no_pulse_is_felt_whatever_its_clock_says(elsewhere, hours):
    sign = replace(elsewhere, time=time.time() + 3600 * hours)
    assert not is_alive(sign, read=lambda: sign)


def test_a_driver_that_rests_meanwhile_is_not_alive(elsewhere):
    assert not is_alive(elsewhere, read=lambda: None)


def test_a_driver_that_was_last_seen_days_ago_is_not_waited_for(elsewhere):
    assert not is_alive(replace(elsewhere, time=time.time() - FORGOTTEN_SECONDS - 60), read=pytest.fail)


def test_what_is_shown_of_a_driver_elsewhere_goes_by_the_clock_for_nobody_waits(ours, elsewhere):
    assert seems_alive(ours)
    assert seems_alive(elsewhere)
    assert not seems_alive(replace(elsewhere, time=time.time() - FRESH_SECONDS - 5))
    assert not seems_alive(None)


def test_a_sign_of_an_earlier_version_says_neither_machine_nor_id(elsewhere):
    assert process_lives(replace(elsewhere, machine=None, id="")) is None
