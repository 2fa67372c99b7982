"""What the commands share: options and consoles."""

import codecs
import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from pipelines.locations import is_address
from search.addresses import is_uri
from search.commands import command, database_options
from search.errors import UserError, first_line
from search.escapes import show_control
from search.secrets import hide_secrets
from search.storage import Storage, check_storage

HERE = "Search here"  # the panel of --help with what works on this machine


class Terminal(Console):
    """A console on which what users chose is read and does nothing, and which outlives its readers.

    Attributes:
        goes_on: what is said on the error output when this one is gone while the work goes on; None: the
            command ends then, quietly.
    """

    goes_on: str | None = None

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False)  # brackets in a path are no markup

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=show_control(segment.text))

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError as error:  # the disk of a log is full, a terminal is gone
            if self.goes_on is None and not self.stderr:
                raise
            self._lose(f"the output cannot be written ({error.strerror})")

    def on_broken_pipe(self) -> None:
        self._lose("nobody reads the output any more")

    def _lose(self, why: str) -> None:
        self.quiet = True
        with contextlib.suppress(OSError, ValueError):  # what others write there goes nowhere too
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.file.fileno())
            os.close(nowhere)
        if self.stderr:
            return
        if self.goes_on is None:
            raise SystemExit(0)
        err.print(f"{why}; {self.goes_on}", soft_wrap=True)


class LogHandler(logging.Handler):
    """Our own logged warnings, told as errors are: on the error output, harmless and without secrets."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            err.print(hide_secrets(self.format(record)), soft_wrap=True)
        except Exception:  # as every handler: what cannot be logged ends no work
            self.handleError(record)


out = Terminal()
err = Terminal(stderr=True)
logged = LogHandler()


def local_path(text: str | Path) -> Path:
    """The parser of every argument that takes a path: of s3://b a Path alone makes s3:/b.

    Raises:
        UserError: it is an address.
    """
    if is_address(str(text)):
        raise UserError(
            f"{text} is an address, and this takes a file or folder of this machine. Download what lies "
            "there, or copy there afterwards, and give the path here; ./ before a path with a colon."
        )
    return Path(text)


JobFile = Annotated[
    Path,
    typer.Argument(
        metavar="JOB", parser=local_path, help="The job file (YAML); docs/job-file.md has every key."
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A job's name, as its file gives it.")]
StorageOption = Annotated[
    str | None, typer.Option("--storage", help="Folder or URI with all state of all jobs. [default: runs]")
]
JobStorage = Annotated[
    str | None, typer.Option("--storage", help="Use this storage instead of the job file's own.")
]


def read_database(given: str | None) -> str | None:
    """A database's URI, or what is in the file that @FILE names: a password is no word of a command line."""
    if given is None or not given.startswith("@"):
        return given
    try:
        return local_path(given[1:]).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UserError(f"--database {given}: the file cannot be read ({first_line(error)}).") from error


DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        callback=read_database,
        help="The studies' SQLAlchemy URI, where the job file gave one; @FILE reads it from a file.",
    ),
]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="Ask the cluster with this dashboard, e.g. http://HEAD:8265.")
]
Address = Annotated[str, typer.Option("--address", help="The cluster's dashboard, e.g. http://HEAD:8265.")]
TaskOption = Annotated[str | None, typer.Option("--task", help="Only this task.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
ClusterOption = Annotated[
    bool,
    typer.Option("--cluster", hidden=True, help="Join the Ray cluster that this process was started by."),
]


def prepare_streams() -> None:
    """Let no character fail for a stream's encoding: what it has no byte for is written as an escape."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write(text: str) -> None:
    """Write text as it is, for programs. Ends the command quietly where nobody reads any more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        out.on_broken_pipe()


def writes_utf8() -> bool:
    """Whether the output takes every character; to others JSON is written in ASCII, with escapes."""
    try:
        return codecs.lookup(sys.stdout.encoding or "").name == "utf-8"
    except LookupError:
        return False


def print_submission(submission: str, name: str, address: str, database: str | None) -> None:
    """Say what was started on a cluster, and what to type next."""
    out.print(f"submitted {name} as {submission}", soft_wrap=True)
    where = ["--address", address]
    record = [*where, *database_options(database)]
    for line in (
        command("logs", name, "--follow", *where),
        command("results", name, *record),
        command("export", name, "--out", "adapters", *record),
    ):
        out.print(f"  {line}", soft_wrap=True)


def short_path(path: str) -> str:
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def open_storage(root: str | None, database: str | None = None) -> Storage:
    chosen = root or "runs"
    check_storage(chosen)
    return Storage(chosen if is_uri(chosen) else str(Path(chosen).expanduser().absolute()), database)
