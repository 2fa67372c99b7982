"""What the service tells its user. The command prints these without a traceback.

UserError
└── JobError    a job file, or a job from Python, cannot be used
"""

from collections.abc import Sequence
from dataclasses import dataclass


class UserError(Exception):
    """The input was wrong; the message says what to change. The command exits with 2."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a job: where it stands, what was given, why that cannot be used, what to do."""

    key: str  # dotted, as in the file: search.trials, tasks[1].files.train
    value: object
    rule: str
    fix: str

    def __str__(self) -> str:
        return f"{self.key} = {self.value!r}: {self.rule}. {self.fix}"


class JobError(UserError):
    """Everything wrong with one job. ``source`` is its file, or ``job`` where it came from Python."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        lines = [f"{source}: {len(problems)} problem(s)", *(f"  {problem}" for problem in problems)]
        super().__init__("\n".join(lines))
        self.source = source
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type["JobError"], tuple[str, tuple[Problem, ...]]]:
        return (type(self), (self.source, self.problems))
