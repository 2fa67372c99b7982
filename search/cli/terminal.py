"""What the commands share: options, consoles, and commands as the user can type them."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from search.storage import Storage

HERE = "Search here"  # the panel of --help with what works on this machine

# Paths and labels may hold brackets, which are no markup.
out = Console(markup=False, highlight=False)
err = Console(stderr=True, markup=False, highlight=False)

JobFile = Annotated[
    Path, typer.Argument(metavar="JOB", help="The job file (YAML); docs/job-file.md has every key.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A job's name, as its file gives it.")]
StorageOption = Annotated[
    str | None, typer.Option("--storage", help="Folder or URI with all state of all jobs. [default: runs]")
]
JobStorage = Annotated[
    str | None, typer.Option("--storage", help="Use this storage instead of the job file's own.")
]
DatabaseOption = Annotated[
    str | None, typer.Option("--database", help="The studies' SQLAlchemy URI, where the job file gave one.")
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


def print_submission(submission: str, name: str, address: str) -> None:
    """Say what was started on a cluster, and what to type next."""
    out.print(f"submitted {name} as {submission}", soft_wrap=True)
    for verb in (("logs", "--follow"), ("results",), ("export", "--out", "adapters")):
        out.print(f"  {command(verb[0], name, *verb[1:], '--address', address)}", soft_wrap=True)


def command(*words: str) -> str:
    """A command of ours as the user can type it here and now."""
    ours = Path(sys.argv[0])
    found = shutil.which("adaptune")
    program = "adaptune"
    if ours.name == "adaptune" and (found is None or not Path(found).samefile(ours)):
        program = os.path.relpath(ours) if ours.is_relative_to(Path.cwd()) else str(ours)
    return shlex.join([program, *words])


def short_path(path: str) -> str:
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def default_storage() -> str:
    return str(Path("runs").absolute())


def flags(flag: str, value: str | None, *, default: str | None = None) -> list[str]:
    return [] if value in (None, default) else [flag, str(value)]


def open_storage(root: str | None, database: str | None = None) -> Storage:
    chosen = root or "runs"
    return Storage(chosen if "://" in chosen else str(Path(chosen).expanduser().absolute()), database)
