"""The command `adaptune` in processes that start at once: forked from one that has imported what it needs.

Each is a process of its own, with its own folder, environment, output, signals and exit code; only imports
are saved, a third of the tests' time. What depends on how Python itself is started (an environment, a path)
has to start it: `jobs.adaptune` and `processes.Command` see to that.
"""

import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

IMPORTED = (
    "matplotlib.figure",
    "mlflow.store.tracking.sqlalchemy_store",
    "transformers.models.bert.modeling_bert",
    "search.report.report",
    "search.runner",
    "search.tracking.tracker",
)
START_SECONDS = 120  # for the imports, on a busy machine


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
        self._told.connect(_server())
        request = {
            "arguments": list(arguments),
            "folder": str(folder),
            "environment": dict(environment),
            "new_session": new_session,
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
def _server() -> str:
    """The address of this process's server, started when it is first needed."""
    folder = tempfile.TemporaryDirectory(prefix="forks-")
    address = str(Path(folder.name) / "socket")
    server = subprocess.Popen(
        [sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(folder.cleanup)
    atexit.register(server.kill)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n", "the server of forks did not start"
    return address


def serve(address: str) -> None:
    """Fork for each request until stdin ends. Returns in the children alone, ready to run the command."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(address)
    listening.listen(16)
    children: dict[int, tuple[int, socket.socket]] = {}  # by the handle of the process
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    while True:
        for ready in select.select([0, listening, *children], [], [])[0]:
            if ready == 0:
                os._exit(0)
            elif ready is listening:
                told, _ = listening.accept()
                content, outputs, _, _ = socket.recv_fds(told, 1 << 20, 2)
                pid = os.fork()
                if pid == 0:
                    listening.close()
                    told.close()
                    for handle, (_, other) in children.items():
                        os.close(handle)
                        other.close()
                    _become(json.loads(content), outputs)
                    return
                for output in outputs:
                    os.close(output)
                told.send(str(pid).encode())
                children[os.pidfd_open(pid)] = (pid, told)
            else:
                pid, told = children.pop(ready)
                os.close(ready)
                _, status = os.waitpid(pid, 0)
                with contextlib.suppress(OSError):
                    told.send(str(os.waitstatus_to_exitcode(status)).encode())
                told.close()


def _become(request: dict[str, Any], outputs: list[int]) -> None:
    if request["new_session"]:
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
    sys.argv = ["adaptune", *request["arguments"]]


def main() -> None:
    for name in IMPORTED:
        import_module(name)
    serve(sys.argv[1])
    import_module("search.cli").main()


if __name__ == "__main__":
    main()
