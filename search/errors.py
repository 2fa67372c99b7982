"""What the service tells its user. The command prints these without a traceback.

SearchError          what a caller catches for all of it
├── UserError        the input was wrong
│   ├── JobError     a job file, or a job from Python, cannot be used
│   ├── LinkOut      a link leads out of a folder that is to travel
│   └── NewerRecord  a record that a newer version has written
├── RayStartError    Ray did not start on this machine
├── StorageError     the storage or the database gave way under a search
├── TakenOver        another process drives the job now
├── RemoteError      what ran on a cluster failed
└── Interrupted      a search was asked to stop
"""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import problem_line
from search.secrets import hide_secrets

MOST_LINES = 50  # problems that a message shows
_UNWRITABLE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ESTALE, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
}


class SearchError(Exception):
    """The base of this tree. `exit_code` is what a command ends with: 1, the work failed."""

    exit_code = 1


class UserError(SearchError):
    """The input was wrong; the message says what to change."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a job: where it stands, what was given, why that cannot be used, what to do."""

    key: str  # dotted, as in the file: search.trials, tasks[1].files.train
    value: object
    rule: str
    fix: str

    def __str__(self) -> str:
        return hide_secrets(problem_line(self.key, self.value, self.rule, self.fix))


class LinkOut(UserError):
    """A file that is read, but lies outside its folder: a link leads to it. `path` is the link."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path


class NewerRecord(UserError):
    """A record that a newer version of adaptune has written: only that one may read it, and go on with it."""


class RayStartError(SearchError):
    """Ray did not start on this machine; the message says what it may have lacked."""


class StorageError(SearchError):
    """The storage or the database cannot be used any more: no trial's fault. What was recorded is kept, and
    the search goes on when that is put right.
    """


class TakenOver(SearchError):
    """Another process drives the job now, and this one has stopped; what it recorded is kept."""


class RemoteError(SearchError):
    """Something that ran on the cluster failed; the message says what and how it ended."""


class Interrupted(SearchError):
    """The search was asked to stop; what it did is kept, and `adaptune resume` goes on."""

    exit_code = 130


def storage_failure(error: BaseException) -> BaseException | None:
    """What failed below an error: a file that cannot be written or a database that is gone; else None."""
    for cause in _causes(error):
        names = {f"{cls.__module__.partition('.')[0]}.{cls.__name__}" for cls in type(cause).__mro__}
        if names & {"sqlalchemy.DBAPIError", "sqlite3.Error"}:
            return cause
        if isinstance(cause, OSError) and cause.errno in _UNWRITABLE:
            return cause
    return None


def first_line(error: BaseException) -> str:
    """What an error says, without what follows, and without secrets."""
    return hide_secrets(next(iter(str(error).splitlines()), "") or type(error).__name__)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from, the nearest first; Ray keeps a worker's own under `cause`."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop(0)
        if found is not None and not any(found is one for one in seen):
            seen.append(found)
            yield found
            waiting += [getattr(found, "cause", None), found.__cause__, found.__context__]


class JobError(UserError):
    """Everything wrong with one job, each thing once. ``source`` is its file, or ``job`` where it came from
    Python.
    """

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        problems = tuple({str(problem): problem for problem in problems}.values())
        lines = [f"{source}: {len(problems)} problem(s)"]
        lines += [f"  {problem}" for problem in problems[:MOST_LINES]]
        if len(problems) > MOST_LINES:
            lines.append(f"  and {len(problems) - MOST_LINES} more")
        super().__init__("\n".join(lines))
        self.source = source
        self.problems = problems

    def __reduce__(self) -> tuple[type["JobError"], tuple[str, tuple[Problem, ...]]]:
        return (type(self), (self.source, self.problems))
