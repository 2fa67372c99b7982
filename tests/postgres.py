"""A PostgreSQL server of a test's own, from Debian's package; it refuses to run as root."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from processes import START_SECONDS, free_port, run_to_end

if TYPE_CHECKING:
    import psycopg


def programs() -> Path | None:
    """Where `initdb` and `postgres` are, or None."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    folders += [Path(found).resolve().parent] if found else []
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


class Postgres:
    """A server that can be killed and started again over the same data."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder, self.bin = folder, bin_folder
        self.port = free_port()
        self._user = "nobody" if os.geteuid() == 0 else None
        self._server: subprocess.Popen[bytes] | None = None
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._run("initdb", "-D", str(folder / "data"), "-U", "adaptune", "--auth=trust", "--no-sync")

    @property
    def url(self) -> str:
        return self._url("postgres")

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://adaptune@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make a further database; returns its URL."""
        with self._connect() as connection:
            connection.execute(f"CREATE DATABASE {database}")
        return self._url(database)

    def start(self) -> None:
        data = str(self.folder / "data")
        options = ["-D", data, "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [str(self.bin / "postgres"), *options],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self.folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        import psycopg

        with contextlib.suppress(psycopg.OperationalError):
            self._connect().close()
            return True
        return False

    def cut_connections(self) -> None:
        """End all connections but one's own, as a network or an administrator may."""
        with self._connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND usename = 'adaptune'"
            )

    def _connect(self) -> "psycopg.Connection":
        import psycopg

        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="adaptune", dbname="postgres", autocommit=True
        )

    def kill(self) -> None:
        """Kill -9, with all that it has started."""
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)  # a session of its own, made above
            self._server.wait(timeout=60)
            self._server = None

    def _run(self, program: str, *arguments: str) -> None:
        run_to_end(str(self.bin / program), *arguments, user=self._user, cwd=self.folder)


@contextlib.contextmanager
def start_postgres() -> Iterator[Postgres]:
    """A fresh server; the test is skipped where there is no PostgreSQL, or no driver for it."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    bin_folder = programs()
    if bin_folder is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # its user has to reach it, and pytest's folders are closed
    server: Postgres | None = None
    try:
        server = Postgres(folder, bin_folder)
        server.start()
        yield server
    finally:
        if server is not None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)
