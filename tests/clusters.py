"""A Ray cluster of several nodes on this machine, on ports and in folders of its own."""

import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from processes import MARK, command_line, free_port, hosts, kill_all, marked, run_to_end, workers


def make_state_folder() -> Path:
    """Where a node's Ray keeps its files: below it, since Ray opens its own folder to all."""
    return Path(tempfile.mkdtemp(prefix="af"))  # short: sockets lie below it, and their paths have a limit


@dataclass
class Node:
    """A node that was added: its processes carry a mark of their own.

    Its folder is its own, too: in a shared one, one node unpacks a job's files over those that another uses.
    """

    cluster: "Cluster"
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    state: Path = field(default_factory=make_state_folder)

    @property
    def node_id(self) -> str:
        """Ray's name of it, from its raylet's command line."""
        (raylet,) = [pid for pid in marked(self.mark) if "raylet/raylet" in command_line(pid).split(" ")[0]]
        flags = dict(
            one.removeprefix("--").split("=", 1) for one in command_line(raylet).split(" ") if "=" in one
        )
        return flags["node_id"]

    def workers(self) -> list[int]:
        """Those that train."""
        return workers(self.mark)

    def hosts(self) -> list[int]:
        """Those that train packs."""
        return hosts(self.mark)

    def kill(self) -> None:
        """All of it at once, as when a machine loses its power."""
        kill_all(marked(self.mark))

    def drain(self, *, seconds: int) -> None:
        """Announce that it will be taken away: what an autoscaler does on a spot notice."""
        self.cluster.ray(
            "drain-node",
            f"--address=127.0.0.1:{self.cluster.port}",
            f"--node-id={self.node_id}",
            "--reason=DRAIN_NODE_REASON_PREEMPTION",
            "--reason-message=spot",
            f"--deadline-remaining-seconds={seconds}",
        )


@dataclass
class Cluster:
    """A head, and the nodes that were added."""

    folder: Path
    state: Path
    port: int
    dashboard: int
    mark: str
    nodes: list[Node] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Of its dashboard."""
        return f"http://127.0.0.1:{self.dashboard}"

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    def environment(self, **more: str) -> dict[str, str]:
        """For a command that talks to it; without what points at another cluster."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file), "PATH": path}
        return {**kept, **own, "PYTHONWARNINGS": "ignore", **more}

    def pids(self) -> list[int]:
        """Of the head and of what it started."""
        return marked(self.mark)

    def add_node(self, *, cpus: int) -> Node:
        node = Node(self)
        self.nodes.append(node)
        self.ray(
            "start",
            f"--address=127.0.0.1:{self.port}",
            f"--num-cpus={cpus}",
            f"--temp-dir={node.state}/s",
            "--object-store-memory=80000000",
            f"--dashboard-agent-listen-port={free_port()}",
            "--disable-usage-stats",
            mark=node.mark,
        )
        return node

    def ray(self, *arguments: str, mark: str | None = None) -> None:
        environment = self.environment(**({MARK: mark} if mark else {}))
        run_to_end("ray", *arguments, env=environment, cwd=self.folder)


@contextlib.contextmanager
def start_cluster(*, cpus: int) -> Iterator[Cluster]:
    """A head with a token; afterwards all of it, and only it, is ended."""
    state = make_state_folder()
    folder = Path(tempfile.mkdtemp(prefix="adaptune-cluster-"))
    cluster = Cluster(folder, state, free_port(), free_port(), secrets.token_hex(8))
    cluster.token_file.touch(mode=0o600)
    cluster.token_file.write_text(secrets.token_hex(16))
    try:
        cluster.ray(
            "start",
            "--head",
            "--include-dashboard=true",
            "--disable-usage-stats",
            f"--port={cluster.port}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={cluster.dashboard}",
            f"--ray-client-server-port={free_port()}",
            f"--dashboard-agent-listen-port={free_port()}",
            f"--temp-dir={state}/s",
            f"--num-cpus={cpus}",
            "--object-store-memory=100000000",
            mark=cluster.mark,
        )
        yield cluster
    finally:
        marks = [cluster.mark, *(node.mark for node in cluster.nodes)]
        for sent, seconds in ((signal.SIGTERM, 3), (signal.SIGKILL, 20)):
            deadline = time.monotonic() + seconds
            while (left := [pid for mark in marks for pid in marked(mark)]) and time.monotonic() < deadline:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, sent)
                time.sleep(0.2)
        for path in (state, folder, *(node.state for node in cluster.nodes)):
            shutil.rmtree(path, ignore_errors=True)
