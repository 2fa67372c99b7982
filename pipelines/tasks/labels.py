"""Names of classes that differ where nobody meant them to: forms of a number, white space, case."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation

from pipelines.errors import shorten
from pipelines.tasks.readers import Table

_MISSING = {"nan", "<na>", "na", "n/a", "#n/a", "nat", "none", "null", "nil", "?", "-", "missing"}
_WHOLE = re.compile(r"(-?\d+)\.0+")  # as pandas writes the integers of a column with a gap
_MOST_NAMED = 5


def unify_numbers(tables: Mapping[str, Table], notes: list[str]) -> dict[str, Table]:
    """Write whole numbers as integers where one has two forms: ``0``, ``0.0`` and ``0.00`` are one class.

    Labels that are all written ``0.0``, or all ``0``, stay as they are.
    """
    labels = {label for table in tables.values() for label in table.labels if label}
    forms: dict[str, list[str]] = {}
    for label in sorted(labels):
        forms.setdefault(_whole(label), []).append(label)
    several = [group for group in forms.values() if len(group) > 1]
    if not several:
        return dict(tables)
    notes.append(f"labels: {' and '.join(several[0][:3])} are one class, as are all whole numbers")
    return {
        name: replace(table, labels=[label and _whole(label) for label in table.labels])
        for name, table in tables.items()
    }


def class_of(written: str, labels: Sequence[str]) -> int | None:
    """The index of the class that a label names, whole numbers in any of their forms; None for no class."""
    if written in labels:
        return labels.index(written)
    whole = [_whole(label) for label in labels]
    return whole.index(_whole(written)) if _whole(written) in whole else None


def _whole(label: str) -> str:
    """A whole number as an integer, any other label as it is."""
    match = _WHOLE.fullmatch(label)
    return match[1] if match else label


def odd_names(tables: Mapping[str, Table]) -> list[str]:
    """Notes on classes that look like one another, or like a missing value; the commonest first.

    Alike are those that are one but for white space and case, or are one number: ``.5`` and ``0.50``.
    """
    rows = Counter(str(label) for table in tables.values() for label in table.labels)
    alike: dict[str | Decimal, list[str]] = {}
    for label in rows:
        plain = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
        number = _number(plain)
        alike.setdefault(plain if number is None else number, []).append(label)
    groups = [sorted(group, key=lambda label: (-rows[label], label)) for group in alike.values()]
    groups = sorted((group for group in groups if len(group) > 1), key=lambda group: -rows[group[0]])
    notes = [
        f"labels that look alike are classes of their own: {_named(group, rows)}"
        for group in groups[:_MOST_NAMED]
    ]
    if len(groups) > _MOST_NAMED:
        notes.append(f"so are {len(groups) - _MOST_NAMED} more groups of labels")
    if missing := sorted(label for plain, group in alike.items() if plain in _MISSING for label in group):
        notes.append(f"labels that look like a missing value are classes: {_named(missing, rows)}")
    return notes


def _number(label: str) -> Decimal | None:
    """The finite number that a label writes."""
    try:
        number = Decimal(label)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _named(labels: Sequence[str], rows: Mapping[str, int]) -> str:
    return ", ".join(f"{shorten(label, 40)!r} ({rows[label]} rows)" for label in labels[:_MOST_NAMED])
