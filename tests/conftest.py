"""A Ray cluster of its own for tests that talk to one."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

# A busy machine is slow, not wrong.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

MARK = "ADAPTUNE_TEST_CLUSTER"  # every process of the cluster inherits it: how we find ours and no other


@dataclass(frozen=True)
class RayCluster:
    """A running head node that asks for a token."""

    address: str  # of its dashboard
    token_file: Path
    folder: Path  # for storage and data

    def environment(self, **more: str) -> dict[str, str]:
        """Environment for a command that talks to it."""
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}
        return {**_environment(), **own, **more}


def _environment() -> dict[str, str]:
    """Ours, without what points at another cluster, and with this Python's commands first."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _processes(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def _stop(mark: str) -> None:
    for sent, seconds in ((signal.SIGTERM, 3), (signal.SIGKILL, 10)):  # Ray's GCS may ignore the first
        for pid in _processes(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
        deadline = time.monotonic() + seconds
        while _processes(mark) and time.monotonic() < deadline:
            time.sleep(0.1)


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A real `ray start --head` with a token, on ports of its own; afterwards it and only it is stopped."""
    mark = secrets.token_hex(16)
    state = tempfile.mkdtemp(prefix="at")  # short: sockets lie below it, and their paths have a limit
    folder = tmp_path_factory.mktemp("cluster")
    token_file = folder / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(secrets.token_hex(16))
    dashboard = _free_port()
    cluster = RayCluster(f"http://127.0.0.1:{dashboard}", token_file, folder)
    flags = {
        "port": _free_port(),
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard,
        "ray-client-server-port": _free_port(),
        "dashboard-agent-listen-port": _free_port(),
        "temp-dir": state,
        "num-cpus": 2,
        "object-store-memory": 100_000_000,
    }
    command = ["ray", "start", "--head", "--include-dashboard=true", "--disable-usage-stats"]
    command += [f"--{key}={value}" for key, value in flags.items()]
    try:
        started = subprocess.run(
            command,
            env=cluster.environment(**{MARK: mark, "PYTHONWARNINGS": "ignore"}),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert started.returncode == 0, started.stdout + started.stderr
        yield cluster
    finally:
        _stop(mark)
        shutil.rmtree(state, ignore_errors=True)
