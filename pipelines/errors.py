"""What pipelines raise when something a user gave, or a trial produced, cannot be used.

PipelineError        what a caller catches for all of it
├── InputError       one thing that a user gave cannot be used
├── InputErrors      several of them, found together
├── BundleError      a folder is no whole bundle, or does not fit its encoder
├── FileError        a file is not read: no plain one, or too large
├── CheckpointError  bytes are no whole checkpoint
└── TrialDiverged    a trial's loss is no number any more
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class PipelineError(Exception):
    """The base of this tree. `exit_code` is what a command ends with: 1, the work failed."""

    exit_code = 1


class InputError(PipelineError, ValueError):  # a ValueError: a job file's validators pass only these on
    """Something a user gave cannot be used.

    Attributes:
        key: where it stands, as the user would write it (``tasks[0].files.train``, ``backbone``).
        value: what was given.
        rule: why it cannot be used.
        fix: what to do about it.
    """

    exit_code = 2

    def __init__(self, key: str, value: object, rule: str, fix: str) -> None:
        super().__init__(problem_line(key, value, rule, fix))
        self.key = key
        self.value = value
        self.rule = rule
        self.fix = fix

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, object, str, str]]:
        return (type(self), (self.key, self.value, self.rule, self.fix))


class InputErrors(PipelineError, ValueError):
    """Several things wrong with one input, found together; ``problems`` holds each of them."""

    exit_code = 2

    def __init__(self, problems: Sequence[InputError]) -> None:
        super().__init__("\n".join([f"{len(problems)} problems", *(f"  {problem}" for problem in problems)]))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type["InputErrors"], tuple[tuple[InputError, ...]]]:
        return (type(self), (self.problems,))


class BundleError(PipelineError, ValueError):
    """A folder that is not a whole, unchanged bundle, or does not fit the backbone at hand."""

    exit_code = 2


class FileError(PipelineError):
    """A file that is not read: no plain file, or too large. The message names it."""

    exit_code = 2


class CheckpointError(PipelineError):
    """Bytes that are not a whole, unchanged checkpoint."""


class TrialDiverged(PipelineError):
    """A trial's loss stopped being a finite number: a failure with a reason, never a score."""


def raise_problems(problems: Sequence[InputError]) -> None:
    """Raise a single problem as it is, several as one `InputErrors`; return if there is none."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise InputErrors(problems)


def nearest(name: str, known: Iterable[str]) -> str:
    """The fix for a misspelt name: the nearest known one, or else all of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(map(repr, names))}."


def problem_line(key: str, value: object, rule: str, fix: str) -> str:
    """A problem on one line, each of its parts cut to what can be read, whatever was given."""
    try:
        given = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes; nested too deeply
        given = f"({type(value).__name__} that is too large to show)"
    return f"{shorten(key)} = {shorten(given)}: {shorten(rule, 1000)}. {shorten(fix, 1000)}"


def shorten(text: str, most: int = 300) -> str:
    """A text, or the first of its characters where it has more than ``most``."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
