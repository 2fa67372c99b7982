"""Ray for the length of a search, and what signals do meanwhile."""

import queue
import signal
import socket
import tempfile
import threading
import time
import weakref
from types import SimpleNamespace

import pytest

from search import session
from search.session import start_ray, terminate_as_interrupt
from search.storage import Storage


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["in front", "in the background"])
def ctrl_c(request):
    """How a process finds Ctrl-C when it starts: a shell lets its jobs in the background ignore it."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_sigterm_interrupts_the_search_however_it_was_started():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminate_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("running", [True, False])
def test_a_ray_that_does_not_start_is_ended_unless_it_is_the_callers(running, tmp_path, monkeypatch):
    def refuse(**_):
        raise RuntimeError("no")

    ended = []
    monkeypatch.setattr(session.ray, "is_initialized", lambda: running)
    monkeypatch.setattr(session.ray, "init", refuse)
    monkeypatch.setattr(session.ray, "shutdown", lambda: ended.append(True))
    storage = Storage(str(tmp_path))
    storage.path("job").mkdir()
    with pytest.raises(RuntimeError, match="no"), start_ray(storage, "job", cluster=False, warn=print):
        pass
    assert bool(ended) != running


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_ray_ends_does_not_leave_that_half_done(sent, raylet, tmp_path, monkeypatch):
    ended = []

    def end():
        signal.raise_signal(sent)
        ended.append(True)

    monkeypatch.setattr(session.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(session.ray, "init", lambda **_: raylet.context)
    monkeypatch.setattr(session.ray, "shutdown", end)
    storage = Storage(str(tmp_path))
    storage.path("job").mkdir()
    with terminate_as_interrupt():
        handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
        with start_ray(storage, "job", cluster=False, warn=print):
            pass
        assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert ended


def test_a_signal_that_comes_while_something_is_freed_is_not_dropped(capsys):
    class Thing:
        pass

    def free():
        thing = Thing()
        freed = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
        del thing
        time.sleep(60)
        assert freed() is None

    with terminate_as_interrupt(), pytest.raises(KeyboardInterrupt):
        free()
    assert "Traceback" not in capsys.readouterr().err


class Raylet:
    """What listens where Ray says that its raylet does, in the process of the test."""

    def __init__(self, folder):
        self.context = SimpleNamespace(
            address_info={"raylet_socket_name": f"{folder}/raylet", "session_dir": str(folder)}
        )
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(f"{folder}/raylet")
        self._listening.listen()

    def die(self):
        self._listening.accept()[0].close()

    def close(self):
        self._listening.close()


@pytest.fixture
def raylet():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket's path may have 108 characters
        raylet = Raylet(folder)
        yield raylet
        raylet.close()


@pytest.fixture
def ended_with(monkeypatch):
    """The exit codes with which this process would have been ended."""
    codes = queue.Queue()
    monkeypatch.setattr(session.os, "_exit", codes.put)
    return codes


def test_when_ray_dies_the_search_ends_with_it_and_says_how_to_go_on(raylet, ended_with):
    said = []
    with session._ending_with_ray(raylet.context.address_info, "adaptune resume topics", said.append):
        raylet.die()
        assert ended_with.get(timeout=60) == 1
    assert "adaptune resume topics" in said[0]
    assert "raylet.out" in said[0]


def test_a_search_that_ends_before_ray_does_ends_in_order(raylet, ended_with):
    said = []
    with session._ending_with_ray(raylet.context.address_info, "adaptune resume topics", said.append):
        pass
    for watch in [one for one in threading.enumerate() if one.name == "raylet watch"]:
        watch.join(timeout=60)
        assert not watch.is_alive()
    assert said == []
    assert ended_with.empty()
