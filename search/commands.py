"""Commands of ours as the user can type them here and now: quoted, with all that they need to find a job."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from search.secrets import has_secret
from search.storage import Storage


def command(*words: str) -> str:
    """A command of ours, as a shell takes it."""
    ours = Path(sys.argv[0])
    found = shutil.which("adaptune")
    program = "adaptune"
    if ours.name == "adaptune" and (found is None or not Path(found).samefile(ours)):
        program = os.path.relpath(ours) if ours.is_relative_to(Path.cwd()) else str(ours)
    return shlex.join([program, *words])


def storage_options(storage: Storage) -> list[str]:
    """By what a command finds a storage and its database; nothing where it looks there anyway."""
    options = [] if storage.root == str(Path("runs").absolute()) else ["--storage", storage.root]
    return options + database_options(storage.database)


def database_options(database: str | None) -> list[str]:
    """By what a command finds the studies of a job that has a database of its own. An address with a password
    is never shown: FILE then stands for a file that holds it.
    """
    if database is None:
        return []
    return ["--database", "@FILE" if has_secret(database) else database]
