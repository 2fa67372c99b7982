"""What is raised when a space cannot be used."""

from collections.abc import Iterable
from difflib import get_close_matches


class FieldError(ValueError):
    """One field whose value cannot be used.

    Attributes:
        key: the parameter, or ``space`` where the space as a whole is meant.
        value: what was given.
        rule: why it cannot be used.
        fix: what to do about it.
    """

    def __init__(self, key: str, value: object, rule: str, fix: str) -> None:
        super().__init__(problem_line(key, value, rule, fix))
        self.key = key
        self.value = value
        self.rule = rule
        self.fix = fix

    def __reduce__(self) -> tuple[type["FieldError"], tuple[str, object, str, str]]:
        return (type(self), (self.key, self.value, self.rule, self.fix))


class SpaceError(ValueError):
    """Everything in one space that cannot be used: one ``FieldError`` or more, in the space's order."""

    def __init__(self, problems: tuple[FieldError, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type["SpaceError"], tuple[tuple[FieldError, ...]]]:
        return (type(self), (self.problems,))


def suggest(name: object, known: Iterable[str]) -> str:
    """The fix for an unknown name: the nearest known one where there is one, and all of them."""
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1)
    listed = f"Known: {', '.join(names)}."
    return f"Did you mean {near[0]!r}? {listed}" if near else listed


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
