"""Processes that a test has started, and no other: how they are found, waited for and killed."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from forks import Forked, environments
from jobs import COMMAND

MARK = "ADAPTUNE_TEST_MARK"  # in the environment; inherited by all that a command starts
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
MARKS: set[str] = set()  # of all commands since a test began
START_SECONDS = 180  # for a program that starts others and ends
LOOK_SECONDS = 0.02  # between two looks at something
DISK_SECONDS = 1.0  # that a slow disk takes for a file
PATIENCE_SECONDS = 900  # a busy machine is slow, not wrong; only a test that fails waits so long


class Command:
    """The command `adaptune` in a process of its own, whose output is read while it runs."""

    def __init__(
        self,
        *arguments: str | Path,
        folder: Path,
        mark: str | None = None,
        environment: Mapping[str, str] | None = None,
        python: bool = False,
    ) -> None:
        self.mark = mark or secrets.token_hex(8)
        MARKS.add(self.mark)
        reading, writing = os.pipe()
        everything = {**os.environ, **(environment or {}), MARK: self.mark}
        words = list(map(str, arguments))
        self.process: subprocess.Popen[bytes] | Forked
        if python:
            self.process = subprocess.Popen(
                [*COMMAND, *words],
                cwd=folder,
                env=everything,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
        else:
            self.process = Forked(
                words, folder=folder, environment=everything, stdout=writing, stderr=writing, new_session=True
            )
        os.close(writing)
        self._output = os.fdopen(reading)
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return "".join(self._lines)

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def signal(self, sent: signal.Signals = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, sent)

    def wait(self, code: int | None = None) -> str:
        """Its output, once it has ended; with `code`, checks how."""
        self.process.wait(timeout=PATIENCE_SECONDS)
        # A killed driver's Ray may hold the pipe open for a while.
        self._reader.join(timeout=5)
        if code is not None:
            assert self.process.returncode == code, f"exit {self.process.returncode}\n{self.output}"
        return self.output

    def wait_until(self, reached: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS) -> bool:
        """Wait for something to be true; False if the command ended before."""
        deadline = time.monotonic() + seconds
        while True:
            started = time.monotonic()
            if reached():
                return True
            if self.ended:
                return False
            assert started < deadline, f"it does not get there\n{self.output}"
            # What takes long to look at is looked at seldom: the search needs the cores.
            time.sleep(max(LOOK_SECONDS, 9 * (time.monotonic() - started)))

    def wait_for_output(self, text: str) -> bool:
        """Wait until it has printed something; False if it ended without."""
        return self.wait_until(lambda: text in self.output) or text in self.output

    def kill_workers_until(self, text: str) -> bool:
        """Kill every worker that trains as soon as it is seen, until something is printed; False if it ended
        without.
        """
        killed: set[int] = set()

        def reached() -> bool:
            if text not in self.output:
                fresh = set(workers(self.mark)) - killed
                kill_all(fresh)
                killed.update(fresh)
            return text in self.output

        return self.wait_until(reached)

    def _read(self) -> None:
        with self._output as lines:
            for line in lines:
                self._lines.append(line)


def run_to_end(program: str, *arguments: str, **options: Any) -> None:
    """Run a command that has to succeed, with options of subprocess.run; show what it says if it does not."""
    done = subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def slow_disk(folder: Path, part: str) -> dict[str, str]:
    """An environment in which files whose path holds `part` take a second to reach the disk.

    Half-written files otherwise live for some microseconds, too short to be met.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        "import os, time\n"
        "def slow(file, sync=os.fsync):\n"
        f"    if {part!r} in os.readlink(f'/proc/self/fd/{{file}}'):\n"
        f"        time.sleep({DISK_SECONDS})\n"
        "    sync(file)\n"
        "os.fsync = slow\n"
    )
    return {"PYTHONPATH": str(folder)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def marked(mark: str) -> list[int]:
    """Ids of the living processes that were started under a mark."""
    word = f"{MARK}={mark}".encode()
    found = [pid for pid, environment in environments() if word in environment]
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def named(mark: str, *starts: str) -> list[int]:
    """Those whose command line starts with one of these, such as the names that Ray gives its workers."""
    return [pid for pid in marked(mark) if command_line(pid).startswith(starts)]


def workers(mark: str) -> list[int]:
    """Ray's workers that train: one per trial that runs, or warm between two calls."""
    return named(mark, "ray::ResourceTrainable", "ray::WorkerTrial")


def hosts(mark: str) -> list[int]:
    """Ray's workers that train packs."""
    return named(mark, "ray::PackHost")


def command_line(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def agents(folder: Path) -> list[int]:
    """Ray's agents of jobs that run in a folder; the mark in their environment is overwritten."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            named = command_line(int(entry.name)).startswith(AGENTS)
            if named and (entry / "cwd").resolve().is_relative_to(folder):
                found.append(int(entry.name))
    return found


def wait_until_gone(mark: str) -> None:
    """Nothing that was started under a mark is left.

    But for Ray's agents of a killed driver, which wait a minute to report its death to what died with it.
    """
    wait_for_end(lambda: [pid for pid in marked(mark) if not command_line(pid).startswith(AGENTS)])


def wait_for_end(find: Callable[[], list[int]]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := find():
        assert time.monotonic() < deadline, [command_line(pid) for pid in left]
        time.sleep(0.5)
