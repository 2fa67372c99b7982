"""Names of classes that differ where nobody meant them to: forms of a number, white space, case."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipelines.errors import shorten
from pipelines.tasks.readers import Table

_MISSING = {"nan", "<na>", "na", "n/a", "#n/a", "nat", "none", "null", "nil", "?", "-", "missing"}
_WHOLE = re.compile(r"(-?\d+)\.0")  # as pandas writes the integers of a column with a gap
_MOST_NAMED = 5


def unify_numbers(tables: Mapping[str, Table], notes: list[str]) -> dict[str, Table]:
    """Write whole numbers as integers where some row does: ``0`` and ``0.0`` are one class.

    Labels that are all written ``0.0``, or all ``0``, stay as they are.
    """
    labels = {label for table in tables.values() for label in table.labels if label}
    integers = {label: match[1] for label in labels if (match := _WHOLE.fullmatch(label))}
    both = sorted(integer for integer in integers.values() if integer in labels)
    if not both:
        return dict(tables)
    notes.append(f"labels: {both[0]} and {both[0]}.0 are one class, as are all whole numbers")
    return {
        name: replace(table, labels=[integers.get(label or "", label) for label in table.labels])
        for name, table in tables.items()
    }


def odd_names(tables: Mapping[str, Table]) -> list[str]:
    """Notes on classes that look like one another, or like a missing value; the commonest first."""
    rows = Counter(str(label) for table in tables.values() for label in table.labels)
    alike: dict[str, list[str]] = {}
    for label in rows:
        plain = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
        alike.setdefault(plain, []).append(label)
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


def _named(labels: Sequence[str], rows: Mapping[str, int]) -> str:
    return ", ".join(f"{shorten(label, 40)!r} ({rows[label]} rows)" for label in labels[:_MOST_NAMED])
