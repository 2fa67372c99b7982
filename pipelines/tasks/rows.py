"""Read a task: its rows from wherever they are, checked, split, limited and fingerprinted.

What depends on the kind of the task, `pipelines.tasks.kind.Kind` says.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import InputError, raise_problems
from pipelines.tasks.cuts import describe, sample_strata, spread_groups, spread_rows
from pipelines.tasks.kind import Kind, kind_of
from pipelines.tasks.readers import READERS, any_of
from pipelines.tasks.registry import registered_hub, where_to_get
from pipelines.tasks.task import SPLITS, Hub, Source, SplitRule, Task


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskData:
    """A task with its rows.

    Attributes:
        labels: class names, sorted; a class index points into it. Empty for a kind without classes.
        train, validation, test: of the kind's own type; `len` is how many rows.
        notes: what was done to the rows, for a human.
        fingerprint: SHA-256 of the rows and the class names; where they came from does not matter.
        folds: of each row of train the fold that it is predicted in; `validation` then has the same rows.
            None: there is a validation set.
        also: the task's further labelled sets by name, as far as they are there. Like the test set, they are
            read by what was chosen, and choose nothing.
    """

    task: Task
    labels: tuple[str, ...] = ()
    train: Any
    validation: Any
    test: Any
    notes: tuple[str, ...]
    fingerprint: str
    folds: NDArray[np.int64] | None = None
    also: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rules(self) -> Kind:
        """What depends on the task's kind."""
        return kind_of(self.task.kind)

    @property
    def outputs(self) -> int:
        """A head's width."""
        return self.rules.outputs(self.labels)

    @property
    def splits(self) -> dict[str, Any]:
        """The splits by name; there is no validation set where there are folds."""
        found = {name: getattr(self, name) for name in SPLITS}
        return found if self.folds is None else {"train": self.train, "test": self.test}

    @property
    def held_out(self) -> dict[str, Any]:
        """What no search sees: the test set as "test", then the further labelled sets."""
        return {"test": self.test, **self.also}


def read_task(task: Task, *, data_dir: str | None = None, split: SplitRule | None = None) -> TaskData:
    """Read a task's three splits.

    The rows are the task's own ``files``, else its ``hub``, else ``data_dir/<name>/<split>.parquet`` (or csv,
    tsv, jsonl), else those of the registered task on the Hub. A missing validation or test split is cut from
    train by ``split``; then ``task.limit`` is applied. Both keep the order of the rows. With ``split.folds``
    no validation split is cut: the rows of train, and of a validation split that there is, are in folds. Sets
    that the task names under ``also`` are read beside the splits, from ``data_dir`` or the Hub. What is
    refused and what is left out is the kind's affair (`pipelines.kinds`).

    Raises:
        InputError, InputErrors: whatever is wrong with the rows, all of it together where one thing does not
            hide another. Keys start with the task's name.
    """
    kind, rule = kind_of(task.kind), split or SplitRule()
    if kind.per_token and (rule.folds or task.group):
        raise _without_folds(task, rule)
    sources = find_sources(task, data_dir)
    tables, problems = _read_tables(kind, task, sources, joined=rule.folds is not None)
    for name, table in tables.items():
        problems += _row_problems(kind, table, task, sources[name])
    raise_problems(problems)
    notes = [f"{name}: {note}" for name, table in tables.items() for note in table.notes]
    tables = {name: table for name, table in tables.items() if len(table)}
    tables = kind.reconcile(tables, notes)

    labels = kind.class_names(tables, task)
    splits = {name: kind.examples(table, labels) for name, table in tables.items()}
    _cut_missing(kind, splits, task, rule, notes)
    _limit(kind, splits, task, rule.seed, notes)
    folds = _cut_folds(kind, splits, task, rule, notes) if rule.folds else None
    kind.settle(splits, task, labels, notes)
    notes += [f"{name}: not there" for name in task.also if name not in splits]
    ordered = {name: splits[name] for name in (*SPLITS, *(name for name in splits if name not in SPLITS))}
    return TaskData(
        task=task,
        labels=labels,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        notes=tuple(notes),
        fingerprint=_fingerprint(kind, ordered, labels, folds),
        folds=folds,
        also={name: splits[name] for name in task.also if name in splits},
    )


def _fingerprint(
    kind: Kind, splits: Mapping[str, Any], labels: tuple[str, ...], folds: NDArray[np.int64] | None
) -> str:
    found = kind.fingerprint(splits, labels)
    return found if folds is None else hashlib.sha256(found.encode() + folds.tobytes()).hexdigest()


def find_sources(task: Task, data_dir: str | None) -> dict[str, Source]:
    """Where each split that is not missing lies; `read_task` says in which order places are looked at.

    Raises:
        InputError: nowhere.
    """
    if task.files:
        given = {name: getattr(task.files, name) for name in SPLITS}
        return {name: Source(f"{task.name}.files.{name}", path) for name, path in given.items() if path}
    if not task.hub and data_dir is not None and (sources := _look_in(Path(data_dir), task)):
        return sources
    hub = task.hub or registered_hub(task.name)
    if hub:
        given = {name: getattr(hub, name) for name in SPLITS} | {name: name for name in task.also}
        return {name: Source(f"{task.name}.hub.{name}", hub) for name, rows in given.items() if rows}
    rule = f"{task.name} has no rows: it names no files and no hub, and data_dir has none for it"
    raise InputError("data_dir", data_dir, rule, where_to_get(task))


def _look_in(data_dir: Path, task: Task) -> dict[str, Source]:
    if not data_dir.is_dir():
        raise InputError("data_dir", str(data_dir), "no such folder", "Correct the path, or leave it out.")
    sources = {}
    for name in (*SPLITS, *task.also):
        paths = [path for ending in READERS if (path := data_dir / task.name / f"{name}{ending}").exists()]
        if len(paths) > 1:
            rule = f"has both {paths[0].name} and {paths[1].name}"
            raise InputError("data_dir", str(paths[0].parent), rule, "Keep one of them.")
        if paths:
            sources[name] = Source("data_dir", str(paths[0]))
    if sources and "train" not in sources:
        rule = f"has rows for {' and '.join(sources)}, but none to train on"
        fix = f"Put {any_of('train')} beside them."
        raise InputError("data_dir", str(data_dir / task.name), rule, fix)
    return sources


def _read_tables(
    kind: Kind, task: Task, sources: Mapping[str, Source], *, joined: bool
) -> tuple[dict[str, Any], list[InputError]]:
    """The tables that can be read, and what is wrong with the others.

    Args:
        joined: whether the rows of train and validation are cut together.
    """
    hub = sources["train"].rows
    if isinstance(hub, Hub):
        return kind.read_hub(hub, task, f"{task.name}.hub"), []
    tables, problems = {}, []
    for name, source in sources.items():
        try:
            grouped = name == "train" or (joined and name == "validation")
            read = task if grouped else replace(task, group=None)
            tables[name] = kind.read_file(str(source.rows), read, source.key)
        except InputError as problem:
            problems.append(problem)
    return tables, problems


def _row_problems(kind: Kind, table: Any, task: Task, source: Source) -> list[InputError]:
    if len(table):
        return kind.row_problems(table, task, source)
    if isinstance(source.rows, Hub) and not source.key.endswith(".train"):
        return []  # as if it were not there
    return [InputError(source.key, source.name, "holds no rows", "Add rows, or leave the split out.")]


def _cut_missing(kind: Kind, splits: dict[str, Any], task: Task, rule: SplitRule, notes: list[str]) -> None:
    """Cut each missing split from train, in place."""
    train = splits["train"]
    fractions = {"test": rule.test, "validation": rule.validation}
    counts = {
        name: max(1, math.floor(len(train) * fraction + 0.5))
        for name, fraction in fractions.items()
        if name not in splits and not (rule.folds and name == "validation")
    }
    if not counts:
        if task.group is not None and not rule.folds:
            notes.append(f"nothing is cut from train: no groups ({task.group!r}) are kept together")
        return
    cut = kind.cut(train, counts, rule.seed)
    for name, rows in cut.rows.items():
        if not len(rows):
            raise InputError(f"{task.name}.{name}", None, cut.too_few, f"Add rows, or give a {name} split.")
        splits[name] = kind.take(train, rows)
        notes.append(f"{name}: {len(rows)} of {len(train)} rows cut from train ({cut.how})")
    left = np.setdiff1d(np.arange(len(train)), np.concatenate(list(cut.rows.values())))
    splits["train"] = kind.take(train, left)


def _cut_folds(
    kind: Kind, splits: dict[str, Any], task: Task, rule: SplitRule, notes: list[str]
) -> NDArray[np.int64]:
    """Make the rows of train, and of validation where there is one, both, in place; returns each row's fold.

    Raises:
        InputError: the rows, or their groups, are too few.
    """
    rows, count = splits["train"], rule.folds or 0
    if "validation" in splits:
        notes.append(f"validation: its {len(splits['validation'])} rows are in the folds, beside train's")
        rows = kind.join(rows, splits["validation"])
    splits["train"] = splits["validation"] = rows
    strata, groups = kind.strata(rows), kind.groups(rows)
    what = f"{task.name}: " + ("the rarest class has" if kind.classes else "train and validation have")
    if (least := min(map(len, strata))) < count:
        fix = f"Write {least}, or add rows." if least > 1 else "Add rows, or leave the class out."
        raise InputError("split.folds", count, f"{what} {least} rows: a fold would be without", fix)
    if groups is None:
        notes.append(f"{len(rows)} rows in {count} folds ({describe(rule.seed, stratified=kind.classes)})")
        return spread_rows(strata, count, rule.seed)
    if (several := len(set(groups))) < count:
        found = f"{task.name}: the column has {several} groups: a fold would be without"
        fix = f"Write folds: {several}, or name another column."
        raise InputError("split.group", task.group, found, fix if several > 1 else "Name another column.")
    folds = spread_groups(strata, groups, count, rule.seed)
    if kind.classes and any(len(np.unique(folds[stratum])) == 1 for stratum in strata):
        found = f"{task.name}: all rows of a class are in one fold, whose model would not know the class"
        raise InputError("split.group", task.group, found, "Name another column, or leave the class out.")
    notes.append(f"{len(rows)} rows of {several} groups in {count} folds (seed {rule.seed}, by group)")
    return folds


def _without_folds(task: Task, rule: SplitRule) -> InputError:
    """What is said of a task whose rows are not examples by themselves."""
    if rule.folds:
        found = f"task {task.name!r} asks for {task.kind}s, whose rows are not put into folds"
        return InputError("split.folds", rule.folds, found, f"Give {task.kind} tasks a job without it.")
    found = f"task {task.name!r} asks for {task.kind}s: these are cut by whole articles"
    return InputError("split.group", task.group, found, f"Give {task.kind} tasks a job without it.")


def _limit(kind: Kind, splits: dict[str, Any], task: Task, seed: int, notes: list[str]) -> None:
    """Keep a seeded sample of each split that is over its limit, in place."""
    for name in SPLITS:
        split, count = splits.get(name, ()), task.limit.get(name)
        if count is None or count >= len(split):
            continue
        strata = kind.strata(split)
        rows, missing = sample_strata(strata, count, seed)
        splits[name] = kind.take(split, rows)
        lost = f"; {missing} of {len(strata)} classes have no row left" if missing else ""
        how = describe(seed, stratified=kind.classes)
        notes.append(f"{name}: limited to {count} of {len(split)} rows ({how}){lost}")
