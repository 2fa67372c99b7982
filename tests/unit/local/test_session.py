"""Ray for the length of a search, and what signals do meanwhile."""

import os
import queue
import signal
import socket
import stat
import tempfile
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest

from search.errors import RayStartError, UserError
from search.local import ray as local_ray
from search.local import session
from search.local.session import check_callers_ray, start_ray
from search.local.signals import terminate_as_interrupt
from search.storage import Storage

TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


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


@pytest.fixture
def ray_calls(raylet, tmp_path, monkeypatch):
    """Ray's start and end, seen and not done; the folder it is started in is of the test."""
    calls = []

    def start(**options):
        calls.append(("init", options, {name: os.environ.get(name) for name in TOKEN_VARIABLES}))
        return raylet.context

    monkeypatch.setattr(tempfile, "tempdir", str(raylet.folder))
    monkeypatch.setattr(session.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(session.ray, "init", start)
    monkeypatch.setattr(session.ray, "shutdown", lambda: calls.append(("shutdown",)))
    return calls


@pytest.fixture
def storage(tmp_path):
    storage = Storage(str(tmp_path))
    storage.path("job").mkdir()
    return storage


def test_a_ray_that_does_not_start_is_ended(ray_calls, storage, monkeypatch):
    def refuse(**_):
        raise RuntimeError("no")

    monkeypatch.setattr(session.ray, "init", refuse)
    with (
        pytest.raises(RayStartError, match=r"did not start .no.*GB of memory.*logs lie"),
        start_ray(storage, "job", cluster=False, warn=print),
    ):
        pass
    assert ray_calls == [("shutdown",)]


def test_a_limit_on_file_sizes_that_ray_cannot_start_with_is_named(ray_calls, storage, monkeypatch):
    monkeypatch.setattr(local_ray.resource, "getrlimit", lambda _: (300 * 1024, 300 * 1024))
    with pytest.raises(UserError, match="ulimit -f"), start_ray(storage, "job", cluster=False, warn=print):
        pass
    assert ray_calls == []


def test_a_ray_that_the_caller_has_is_used_and_stays(ray_calls, storage, raylet, monkeypatch):
    monkeypatch.setattr(session.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(session.ray._private.worker, "_global_node", raylet.context)
    with start_ray(storage, "job", cluster=False, warn=print):
        pass
    assert ray_calls == []


@pytest.fixture
def callers_ray(raylet, monkeypatch):
    """A Ray that the caller has started and that fits; its folder is closed to others."""
    ours = str(Path(session.__file__).parent)
    monkeypatch.setattr(session.ray.util.client.ray, "is_connected", lambda: False)
    monkeypatch.setattr(session.ray, "nodes", lambda: [{"Alive": True}, {"Alive": False}])
    monkeypatch.setattr(session, "_package_of_worker", SimpleNamespace(remote=lambda: ours))
    monkeypatch.setattr(session.ray, "get", lambda found, **_: found)
    monkeypatch.setattr(session.ray._private.worker, "_global_node", raylet.context)
    return raylet


def test_a_callers_ray_that_fits_is_taken_without_a_word(callers_ray, logged):
    check_callers_ray()
    assert logged == []


def test_a_callers_ray_that_is_open_to_other_users_is_warned_of(callers_ray, logged):
    callers_ray.folder.chmod(0o777)
    check_callers_ray()
    (said,) = logged
    assert f"{callers_ray.folder} is open to all" in said
    assert "call ray.shutdown() before" in said


def test_a_client_of_a_cluster_is_no_ray_for_a_run(callers_ray, monkeypatch):
    monkeypatch.setattr(session.ray.util.client.ray, "is_connected", lambda: True)
    with pytest.raises(UserError, match=r"as a client \(ray://\).*Call ray\.shutdown\(\) before"):
        check_callers_ray()


def test_a_cluster_of_several_nodes_is_no_ray_for_a_local_run(callers_ray, monkeypatch):
    monkeypatch.setattr(session.ray, "nodes", lambda: [{"Alive": True}, {"Alive": True}])
    with pytest.raises(UserError, match=r"several nodes.*ray\.shutdown\(\).*adaptune submit"):
        check_callers_ray()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda *_, **__: "/elsewhere/search/local", r"another adaptune \(/elsewhere/search/local\)"),
        (lambda *_, **__: int("No module named 'search'"), "cannot use adaptune: its workers say invalid"),
    ],
    ids=["another", "none"],
)
def test_a_ray_whose_workers_have_not_this_adaptune_is_refused(callers_ray, monkeypatch, answer, said):
    monkeypatch.setattr(session.ray, "get", answer)
    with pytest.raises(UserError, match=rf"{said}.*Call ray\.shutdown\(\) before"):
        check_callers_ray()


def test_a_local_ray_lies_in_a_private_folder_that_goes_with_it(ray_calls, storage):
    with start_ray(storage, "job", cluster=False, warn=print):
        folder = Path(ray_calls[0][1]["_temp_dir"]).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert ray_calls[-1] == ("shutdown",)
    assert not folder.exists()


@pytest.mark.parametrize("mode", [None, "disabled", "token"])
def test_a_local_ray_has_a_token_of_its_own_whatever_the_environment_says(
    mode, ray_calls, storage, monkeypatch
):
    before = {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": None, "RAY_AUTH_TOKEN_PATH": "/a/file"}
    for name, value in before.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    for _ in range(2):
        with start_ray(storage, "job", cluster=False, warn=print):
            pass
    first, second = (call[2] for call in ray_calls if call[0] == "init")
    assert first["RAY_AUTH_MODE"] == "token"
    assert len(first["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]
    assert first["RAY_AUTH_TOKEN_PATH"] is None
    assert {name: os.environ.get(name) for name in TOKEN_VARIABLES} == before


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_ray_ends_does_not_leave_that_half_done(sent, ray_calls, storage, monkeypatch):
    ended = []

    def end():
        signal.raise_signal(sent)
        ended.append(True)

    monkeypatch.setattr(session.ray, "shutdown", end)
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


def test_nor_is_one_that_is_sent_again_before_its_time(capsys, monkeypatch):
    """As on a busy machine: the thread that sends it runs before the one that started it."""
    start = threading.Timer.start

    def start_late(timer):
        monkeypatch.undo()
        start(timer)
        time.sleep(0.1)

    monkeypatch.setattr(threading.Timer, "start", start_late)

    class Thing:
        pass

    def free():
        thing = Thing()
        freed = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
        del thing
        time.sleep(10)
        assert freed() is None

    with terminate_as_interrupt(), pytest.raises(KeyboardInterrupt):
        free()
    assert "Traceback" not in capsys.readouterr().err


class Raylet:
    """What listens where Ray says that its raylet and its control service do, in the process of the test."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self._control = socket.create_server(("127.0.0.1", 0))
        addresses = {
            "raylet_socket_name": f"{folder}/raylet",
            "gcs_address": f"127.0.0.1:{self._control.getsockname()[1]}",
            "session_dir": str(folder),
        }
        self.context = SimpleNamespace(address_info=addresses)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(f"{folder}/raylet")
        self._listening.listen()

    def die(self):
        self._listening.accept()[0].close()

    def close(self):
        self._listening.close()
        self._control.close()


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
    with session._ending_with_ray(
        raylet.context.address_info, "adaptune resume topics", said.append, control=False
    ):
        raylet.die()
        assert ended_with.get(timeout=60) == 1
    assert "adaptune resume topics" in said[0]
    assert "raylet.out" in said[0]


def test_a_search_that_ends_before_ray_does_ends_in_order(raylet, ended_with):
    said = []
    with session._ending_with_ray(
        raylet.context.address_info, "adaptune resume topics", said.append, control=False
    ):
        pass
    for watch in [one for one in threading.enumerate() if one.name == "raylet watch"]:
        watch.join(timeout=60)
        assert not watch.is_alive()
    assert said == []
    assert ended_with.empty()


def test_a_control_service_that_closes_a_silent_connection_is_not_dead_and_one_that_listens_no_more_is(
    monkeypatch,
):
    monkeypatch.setattr(session, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(session, "REFUSED_SECONDS", 0.01)
    server = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{server.getsockname()[1]}"
    waiting = threading.Thread(target=session._wait_for_server, args=(address, threading.Event()))
    waiting.start()
    for _ in range(3):
        connection, _ = server.accept()
        connection.close()
    assert waiting.is_alive()
    connection, _ = server.accept()
    server.close()
    connection.close()
    waiting.join(60)
    assert not waiting.is_alive()


def test_the_watch_on_a_control_service_ends_with_the_search(monkeypatch):
    monkeypatch.setattr(session, "POLL_SECONDS", 0.01)
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        waiting = threading.Thread(target=session._wait_for_server, args=(address, done))
        waiting.start()
        connection, _ = server.accept()
        done.set()
        waiting.join(60)
        connection.close()
    assert not waiting.is_alive()
