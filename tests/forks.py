"""The command `adaptune` in processes that start at once: forked from one that has imported what it needs.

Each is a process of its own, with its own folder, environment, output, signals and exit code; only imports
are saved, more than half of the tests' time. The workers of the Ray that such a command starts are forks, too
(`fork_worker.py`): Ray itself is what it always is. What depends on how Python itself is started has to start
it: `jobs.adaptune` and `processes.Command` do so if asked.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine

# Ray is not among them: what it reads when it is imported differs from worker to worker.
IN_WORKERS = (
    "alembic.command",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "mlflow.store.tracking.sqlalchemy_store",
    "optuna.storages",
    "pandas",
    "pyarrow.fs",
    "pyarrow.json",
    "pydantic.v1",
    "requests",
    "sqlalchemy.dialects.sqlite",
    "torch",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
)
IN_COMMANDS = (
    "ray.dag",
    "search.cli.app",
    "search.report.report",
    "search.runner",
    "search.tracking.tracker",
)
ADDRESS = "ADAPTUNE_TEST_FORKS"  # in a command's environment: where its Ray's workers are forked
PROGRAM = str(Path(sys.executable).parent / "adaptune")


class Forked:
    """One command that runs, with what subprocess.Popen has of it."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        stdout: int,
        stderr: int,
        new_session: bool = False,
    ) -> None:
        self.returncode: int | None = None
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._told.connect(str(_server() / "commands"))
        request = {
            "arguments": list(arguments),
            "folder": str(folder),
            "environment": dict(environment),
            "new_session": new_session,
            "worker": False,
        }
        socket.send_fds(self._told, [json.dumps(request).encode()], [stdout, stderr])
        self.pid = int(self._told.recv(32))

    def poll(self) -> int | None:
        """The exit code, or None while it runs; minus the signal's number if one ended it."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises TimeoutError if it runs for longer."""
        code = self._wait(timeout)
        if code is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        return code

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], timeout)[0]:
            self.returncode = int(self._told.recv(32))
            self._told.close()
        return self.returncode


@cache
def _server() -> Path:
    """The folder of this process's servers, started when they are first needed: their sockets, and a file for
    each process that they have forked.
    """
    folder = tempfile.TemporaryDirectory(prefix="forks-")
    server = subprocess.Popen(
        [sys.executable, __file__, folder.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    atexit.register(folder.cleanup)
    atexit.register(server.communicate)  # the end of its stdin is its own
    assert server.stdout.readline() == "ready\n", "the server of forks did not start"
    return Path(folder.name)


def environments() -> Iterator[tuple[int, bytes]]:
    """The forks that live, with the environments that they were given: /proc has the server's."""
    for file in _server().glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError):
            yield int(file.name), file.read_bytes()


def serve(folder: Path, listening: socket.socket) -> Callable[[], None]:
    """Fork for each request until stdin ends. Returns in the children alone: what they are to do."""
    children: dict[int, tuple[int, socket.socket]] = {}  # by the handle of the process
    ours: dict[socket.socket, int] = {}  # workers, which end with who has asked for them, by the handle
    gc.collect()
    gc.freeze()
    while True:
        for ready in select.select([0, listening, *children, *ours], [], [])[0]:
            if ready == 0:
                os._exit(0)
            elif ready is listening:
                told, _ = listening.accept()
                content, outputs, _, _ = socket.recv_fds(told, 1 << 20, 2)
                request = json.loads(content)
                pid = os.fork()
                if pid == 0:
                    listening.close()
                    told.close()
                    for handle, (_, other) in children.items():
                        os.close(handle)
                        other.close()
                    return _become(request, outputs, folder)
                for output in outputs:
                    os.close(output)
                words = [f"{key}={value}" for key, value in request["environment"].items()]
                (folder / str(pid)).write_bytes("\0".join(words).encode(errors="surrogateescape"))
                told.send(str(pid).encode())
                handle = os.pidfd_open(pid)
                children[handle] = (pid, told)
                if request["worker"]:
                    ours[told] = handle
            elif isinstance(ready, socket.socket):
                if (handle := ours.pop(ready, None)) in children:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            elif ready in children:
                pid, told = children.pop(ready)
                ours.pop(told, None)
                os.close(ready)
                _, status = os.waitpid(pid, 0)
                (folder / str(pid)).unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    told.send(str(os.waitstatus_to_exitcode(status)).encode())
                told.close()


def _become(request: dict[str, Any], outputs: list[int], folder: Path) -> Callable[[], None]:
    if request["worker"]:
        os.setpgid(0, 0)  # Ray ends a worker's group with it
    elif request["new_session"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (outputs[0], 1), (outputs[1], 2)):
        os.dup2(source, target)
        os.close(source)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = request["arguments"] if request["worker"] else [PROGRAM, *request["arguments"]]
    sys.orig_argv = [sys.executable, *sys.argv]
    _take_path(os.environ.get("PYTHONPATH", ""))
    if request["worker"]:
        sys.path[0] = str(Path(sys.argv[0]).parent)
        return lambda: runpy.run_path(sys.argv[0], run_name="__main__") and None
    os.environ[ADDRESS] = str(folder / "workers")
    _read_environment()
    _fork_workers()
    return import_module("search.cli").main


def _take_path(path: str) -> None:
    """Find modules where this process is told to, a `sitecustomize` first, as Python does when it starts."""
    folders = [folder for folder in path.split(os.pathsep) if folder]
    sys.path[1:1] = folders
    if any(Path(folder, "sitecustomize.py").exists() for folder in folders):
        sys.modules.pop("sitecustomize", None)
        import_module("sitecustomize")


def _read_environment() -> None:
    """Have Ray read again what it has read when it was imported."""
    raylet: Any = import_module("ray._raylet")
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


def _fork_workers() -> None:
    """Let the Ray that this process starts have its workers from our server."""
    node: Any = import_module("ray._private.node").Node
    start = node.start_raylet

    def start_raylet(self: Any, *arguments: Any, **more: Any) -> None:
        self._ray_params.setup_worker_path = str(Path(__file__).with_name("fork_worker.py"))
        start(self, *arguments, **more)

    node.start_raylet = start_raylet


def _make_tables_once(made: Path) -> None:
    """Have MLflow copy the tables of a new database from one that it has made: a second of work each time."""
    tables: Any = import_module("mlflow.store.db.utils")
    engine = create_engine(f"sqlite:///{made}")
    tables._initialize_tables(engine)
    engine.dispose()

    def copy(engine: Engine) -> None:
        with closing(sqlite3.connect(made)) as source, engine.connect() as connection:
            target = connection.connection.driver_connection
            assert isinstance(target, sqlite3.Connection)
            source.backup(target)

    tables._initialize_tables = copy


def main() -> None:
    folder = Path(sys.argv[1])
    for name in IN_WORKERS:
        import_module(name)
    sockets = {name: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for name in ("workers", "commands")}
    for name, listening in sockets.items():
        listening.bind(str(folder / name))
        listening.listen(16)
    name, other = ("workers", "commands") if os.fork() else ("commands", "workers")
    sockets[other].close()
    if name == "commands":
        for one in IN_COMMANDS:
            import_module(one)
        _make_tables_once(folder / "tables.db")
        print("ready", flush=True)
    serve(folder, sockets[name])()


if __name__ == "__main__":
    main()
