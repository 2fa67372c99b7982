"""Rows of texts with a label each: classes or numbers."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import InputError, nearest, shorten
from pipelines.tasks.cuts import Indices
from pipelines.tasks.readers import Column, Table
from pipelines.tasks.task import Source, Task
from pipelines.texts import has_surrogate

Labels = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """One split. ``texts`` has one or two a row; ``labels`` is (rows,), class indices or real numbers;
    ``groups`` has each row's, where the task has some.
    """

    texts: tuple[tuple[str, ...], ...]
    labels: Labels
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Indices) -> "Examples":
        groups = None if self.groups is None else tuple(self.groups[row] for row in rows)
        return Examples(texts=tuple(self.texts[row] for row in rows), labels=self.labels[rows], groups=groups)

    def followed_by(self, other: "Examples") -> "Examples":
        groups = None if self.groups is None or other.groups is None else self.groups + other.groups
        labels: Labels = np.concatenate([self.labels, other.labels])
        return Examples(texts=self.texts + other.texts, labels=labels, groups=groups)


def drop_unusable(table: Table) -> Table:
    """The rows with text and label. Hub rows without are left out, as nobody here can mend them."""
    columns = (*table.texts, table.labels, *([] if table.groups is None else [table.groups]))
    bad = {row for column in columns for row in _empty_rows(column)}
    if not bad:
        return table
    kept = [row for row in range(len(table.labels)) if row not in bad]
    note = f"{len(bad)} of {len(table.labels)} rows left out: no text or no label"
    texts = tuple([column[row] for row in kept] for column in table.texts)
    groups = None if table.groups is None else [table.groups[row] for row in kept]
    labels = [table.labels[row] for row in kept]
    return Table(texts=texts, labels=labels, notes=(*table.notes, note), groups=groups)


def _empty_rows(column: Column) -> list[int]:
    return [row for row, cell in enumerate(column) if not cell or cell.isspace()]


def row_problems(table: Table, task: Task, source: Source) -> list[InputError]:
    """Rows without a text or a label, or with characters that no encoding writes."""
    problems = []
    columns = [("text", name, cells) for name, cells in zip(task.text, table.texts, strict=True)]
    columns.append(("label", task.label, table.labels))
    if table.groups is not None:
        columns.append(("group", task.group or "", table.groups))
    for what, name, cells in columns:
        if rows := _empty_rows(cells):
            rule = f"{len(rows)} of {len(cells)} rows have no {what} ({name!r}): {_number(rows)}"
            problems.append(InputError(source.key, source.name, rule, "Fill in or remove these rows."))
        if rows := [row for row, cell in enumerate(cells) if cell and has_surrogate(cell)]:
            rule = (
                f"{len(rows)} of {len(cells)} rows have half a character (a lone surrogate) in their {what} "
            )
            fix = "Correct or remove these rows: their texts were cut within a character."
            problems.append(InputError(source.key, source.name, f"{rule}({name!r}): {_number(rows)}", fix))
    return problems


def _number(rows: Sequence[int]) -> str:
    """The first rows, counted from 1 without a header."""
    first = ", ".join(str(row + 1) for row in rows[:5])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f"row{'s' if len(rows) > 1 else ''} {first}{more}"


def class_problems(tables: Mapping[str, Table], task: Task, labels: tuple[str, ...]) -> list[InputError]:
    """Classes that cannot be learned or scored; the labels are all names of classes."""
    problems = []
    key = f"{task.name}.label"
    trained = set(tables["train"].labels)
    if len(trained) == 1:
        rule = f"every row of train is {labels[0]!r}" if len(labels) == 1 else "train has one class only"
        problems.append(
            InputError(key, task.label, rule, "Add rows of another class, or name another column.")
        )
    for name in ("validation", "test", *task.also):
        unseen = (
            Counter(label for label in tables[name].labels if label not in trained) if name in tables else {}
        )
        for label, rows in sorted(unseen.items(), key=str):
            rule = f"class {label!r} has {rows} rows in {name} and none in train"
            problems.append(InputError(key, task.label, rule, "Add rows of it to train, or remove these."))
    if task.positive is not None and task.positive not in labels:
        fix = nearest(task.positive, labels[:50])
        problems.append(InputError(f"{task.name}.positive", task.positive, "not one of the labels", fix))
    return problems


_MORE_ROWS = (
    "Give a validation set with more of them, or cut a larger one (split.validation, limit.validation)."
)


def missing_classes(splits: Mapping[str, Examples], labels: tuple[str, ...]) -> list[str]:
    """Notes on classes of which a split has no row: it tells nothing of them."""
    notes = []
    for name in ("validation", "test"):
        there = set(splits[name].labels.tolist())
        if missing := [shorten(label, 40) for index, label in enumerate(labels) if index not in there]:
            named = ", ".join(map(repr, missing[:5])) + (", …" if len(missing) > 5 else "")
            notes.append(f"{name}: no row of {len(missing)} of {len(labels)} classes: {named}")
    return notes


def choice_problems(validation: Examples, task: Task, labels: tuple[str, ...]) -> list[InputError]:
    """A validation set by which every trial scores as if it had learned one class, or nothing."""
    there, key = {labels[index] for index in validation.labels.tolist()}, f"{task.name}.validation"
    if len(there) == 1:
        rule = f"holds one class only ({shorten(min(there), 40)!r} of {len(labels)}): it can choose no trial"
        return [InputError(key, len(validation), rule, _MORE_ROWS)]
    if task.metric == "f1" and task.positive is not None and task.positive not in there:
        rule = f"holds no row of {shorten(task.positive, 40)!r}, which f1 is about: every trial would score 0"
        return [InputError(key, len(validation), rule, _MORE_ROWS)]
    return []


def spread_problems(splits: Mapping[str, Examples], task: Task) -> list[InputError]:
    """Numbers that are all one, after cuts and limits: nothing is learned from them, or chosen by them."""
    return [
        InputError(
            f"{task.name}.{name}",
            len(splits[name]),
            f"its labels are all {splits[name].labels[0]:g}: nothing can be {what} by them",
            _MORE_ROWS if name == "validation" else "Use more rows of train (limit.train).",
        )
        for name, what in (("train", "learned"), ("validation", "chosen"))
        if len(set(splits[name].labels.tolist())) == 1
    ]


def number_problems(table: Table, source: Source) -> list[InputError]:
    """Labels that are no finite numbers, or are all one number."""

    def is_finite(cell: str | None) -> bool:
        try:
            return math.isfinite(float(cell or ""))
        except ValueError:
            return False

    bad = [row for row, cell in enumerate(table.labels) if not is_finite(cell)]
    if bad:
        rule = f"{len(bad)} labels are not finite numbers, as {table.labels[bad[0]]!r}: {_number(bad)}"
        fix = "Correct these rows, or make it a classification."
    elif len({float(cell or "") for cell in table.labels}) == 1:
        rule = f"all {len(table.labels)} labels are {table.labels[0]}"
        fix = "A regression needs labels that differ: name another column."
    else:
        return []
    return [InputError(source.key, source.name, rule, fix)]


def examples(table: Table, labels: tuple[str, ...]) -> Examples:
    """A checked table's: class indices where there are names of classes, else numbers."""
    index = {label: number for number, label in enumerate(labels)}
    values: Labels = (
        np.array([index[str(label)] for label in table.labels], dtype=np.int64)
        if labels
        else np.array([float(label or "") for label in table.labels], dtype=np.float64)
    )
    groups = None if table.groups is None else tuple(str(group) for group in table.groups)
    return Examples(texts=tuple(zip(*table.texts, strict=True)), labels=values, groups=groups)
