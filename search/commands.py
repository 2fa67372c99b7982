"""Commands of ours as the user can type them here and now: quoted, with all that they need to find a job."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
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


def predict_command(bundle: str, kind: str, columns: Sequence[str]) -> str:
    """A `predict` that works as it is printed; pairs come as JSON lines on standard input.

    Args:
        kind: of the bundle's task.
        columns: of its texts.
    """
    from pipelines.kinds import KINDS

    texts = KINDS[kind].example(len(columns))
    if len(texts) == 1:
        return command("predict", bundle, *texts)
    pair = json.dumps(dict(zip(columns, texts, strict=True)), ensure_ascii=False)
    return f"echo {shlex.quote(pair)} | {command('predict', bundle)}"


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
