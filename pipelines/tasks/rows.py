"""Read a task: its rows from wherever they are, split, limited, checked and fingerprinted."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import InputError, nearest, raise_problems
from pipelines.tasks.readers import READERS, Column, Table, read_hub, read_table
from pipelines.tasks.registry import registered_hub, where_to_get
from pipelines.tasks.task import SPLITS, Hub, SplitRule, Task

Labels = NDArray[np.int64] | NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """Where a split's rows lie: a file, or a dataset on the Hub. Errors name ``place``, its key."""

    place: str
    rows: str | Hub

    @property
    def name(self) -> str:
        return self.rows.path if isinstance(self.rows, Hub) else self.rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """One split. ``texts`` has one or two a row; ``labels`` is (rows,), class indices or real numbers."""

    texts: tuple[tuple[str, ...], ...]
    labels: Labels

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Indices) -> "Examples":
        return Examples(texts=tuple(self.texts[row] for row in rows), labels=self.labels[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskData:
    """A task with its rows.

    Attributes:
        labels: class names, sorted; a class index points into it. Empty for a regression.
        notes: what was done to the rows, for a human.
        fingerprint: SHA-256 of the rows and the class names; where they came from does not matter.
        also: the task's further labelled sets by name, as far as they are there. Like the test set, they are
            read by what was chosen, and choose nothing.
    """

    task: Task
    labels: tuple[str, ...]
    train: Examples
    validation: Examples
    test: Examples
    notes: tuple[str, ...]
    fingerprint: str
    also: Mapping[str, Examples] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """A head's width: one per class, or 1."""
        return len(self.labels) or 1


def read_task(task: Task, *, data_dir: str | None = None, split: SplitRule | None = None) -> TaskData:
    """Read a task's three splits.

    The rows are the task's own ``files``, else its ``hub``, else ``data_dir/<name>/<split>.parquet`` (or csv,
    tsv, jsonl), else those of the registered task on the Hub. Hub rows without a text or a label are left
    out, as nobody here can mend them; elsewhere they are refused. A missing validation or test split is cut
    from train by ``split``; then ``task.limit`` is applied. Both keep the order of the rows. Sets that the
    task names under ``also`` are read beside the splits, from ``data_dir`` or the Hub.

    Raises:
        InputError, InputErrors: whatever is wrong with the rows, all of it together where one thing does not
            hide another. Keys start with the task's name.
    """
    if task.kind == "span":
        fix = "Read it with pipelines.read_task, which takes every kind."
        raise InputError(f"{task.name}.kind", task.kind, "has no texts with labels", fix)
    split = split or SplitRule()
    sources = find_sources(task, data_dir)
    tables, problems = _read_tables(task, sources)
    for name, table in tables.items():
        problems += _row_problems(table, task, sources[name])
    raise_problems(problems)
    notes = [f"{name}: {note}" for name, table in tables.items() for note in table.notes]
    tables = {name: table for name, table in tables.items() if table.labels}

    labels: tuple[str, ...] = ()
    if task.kind == "classification":
        labels = tuple(sorted({str(label) for table in tables.values() for label in table.labels}))
        raise_problems(_class_problems(tables, task, labels))
    else:
        raise_problems([p for name, table in tables.items() for p in _number_problems(table, sources[name])])

    splits = {name: _examples(table, labels) for name, table in tables.items()}
    _cut_missing(splits, task, split, notes)
    _limit(splits, task, split.seed, notes)
    notes += [f"{name}: not there" for name in task.also if name not in splits]
    return TaskData(
        task=task,
        labels=labels,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        notes=tuple(notes),
        fingerprint=_fingerprint(splits, labels),
        also={name: splits[name] for name in task.also if name in splits},
    )


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
        fix = "Put train.parquet (or csv, tsv, jsonl) beside them."
        raise InputError("data_dir", str(data_dir / task.name), rule, fix)
    return sources


def _read_tables(task: Task, sources: dict[str, Source]) -> tuple[dict[str, Table], list[InputError]]:
    """The tables that can be read, and what is wrong with the others."""
    hub = sources["train"].rows
    if isinstance(hub, Hub):
        tables = read_hub(hub, task, f"{task.name}.hub")
        return {name: _drop_unusable(table) for name, table in tables.items()}, []
    tables, problems = {}, []
    for name, source in sources.items():
        try:
            tables[name] = read_table(str(source.rows), task, source.place)
        except InputError as problem:
            problems.append(problem)
    return tables, problems


def _drop_unusable(table: Table) -> Table:
    bad = {row for column in (*table.texts, table.labels) for row in _empty_rows(column)}
    if not bad:
        return table
    kept = [row for row in range(len(table.labels)) if row not in bad]
    note = f"{len(bad)} of {len(table.labels)} rows left out: no text or no label"
    texts = tuple([column[row] for row in kept] for column in table.texts)
    return Table(texts=texts, labels=[table.labels[row] for row in kept], notes=(*table.notes, note))


def _empty_rows(column: Column) -> list[int]:
    return [row for row, cell in enumerate(column) if not cell or cell.isspace()]


def _row_problems(table: Table, task: Task, source: Source) -> list[InputError]:
    if not table.labels and (isinstance(source.rows, str) or source.place.endswith(".train")):
        return [InputError(source.place, source.name, "holds no rows", "Add rows, or leave the split out.")]
    problems = []
    columns = [("text", name, cells) for name, cells in zip(task.text, table.texts, strict=True)]
    for what, name, cells in (*columns, ("label", task.label, table.labels)):
        if rows := _empty_rows(cells):
            rule = f"{len(rows)} of {len(cells)} rows have no {what} ({name!r}): {_number(rows)}"
            problems.append(InputError(source.place, source.name, rule, "Fill in or remove these rows."))
    return problems


def _number(rows: Sequence[int]) -> str:
    """The first rows, counted from 1 without a header."""
    first = ", ".join(str(row + 1) for row in rows[:5])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f"row{'s' if len(rows) > 1 else ''} {first}{more}"


def _class_problems(tables: dict[str, Table], task: Task, labels: tuple[str, ...]) -> list[InputError]:
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


def _number_problems(table: Table, source: Source) -> list[InputError]:
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
    return [InputError(source.place, source.name, rule, fix)]


def _examples(table: Table, labels: tuple[str, ...]) -> Examples:
    """Cells as checked: texts and labels are all there."""
    index = {label: number for number, label in enumerate(labels)}
    values: Labels = (
        np.array([index[str(label)] for label in table.labels], dtype=np.int64)
        if labels
        else np.array([float(label or "") for label in table.labels], dtype=np.float64)
    )
    return Examples(texts=tuple(zip(*table.texts, strict=True)), labels=values)


def _cut_missing(splits: dict[str, Examples], task: Task, rule: SplitRule, notes: list[str]) -> None:
    """Cut each missing split from train, in place. The class sizes before any cut decide."""
    train = splits["train"]
    strata = _strata(train)
    sizes = np.array([len(rows) for rows in strata])
    left = _shuffle(strata, rule.seed)
    for name, fraction in (("test", rule.test), ("validation", rule.validation)):
        if name in splits:
            continue
        count = max(1, math.floor(len(train) * fraction + 0.5))
        most = np.array([len(rows) - 1 for rows in left])  # every class keeps a row to train on
        shares = _share(count, sizes, least=np.zeros_like(most), most=most)
        splits[name] = train.take(_first(left, shares))
        left = [rows[share:] for rows, share in zip(left, shares, strict=True)]
        if not len(splits[name]):
            reason = f"train's {len(train)} rows are too few to cut any from: each class keeps one"
            raise InputError(f"{task.name}.{name}", None, reason, f"Add rows, or give a {name} split.")
        cut = f"{len(splits[name])} of {len(train)} rows cut from train"
        notes.append(f"{name}: {cut} ({_how(train, rule.seed)})")
    splits["train"] = train.take(_first(left, np.array([len(rows) for rows in left])))


def _limit(splits: dict[str, Examples], task: Task, seed: int, notes: list[str]) -> None:
    """Keep a seeded, stratified sample of each split that is over its limit, in place."""
    for name in SPLITS:
        examples, count = splits[name], task.limit.get(name)
        if count is None or count >= len(examples):
            continue
        strata = _shuffle(_strata(examples), seed)
        sizes = np.array([len(rows) for rows in strata])
        least = np.zeros_like(sizes)
        least[np.argsort(-sizes, kind="stable")[:count]] = 1  # every class keeps a row if there is room
        shares = _share(count, sizes, least=least, most=sizes)
        splits[name] = examples.take(_first(strata, shares))
        lost = f"; {np.sum(shares == 0)} of {len(shares)} classes have no row left" if 0 in shares else ""
        notes.append(f"{name}: limited to {count} of {len(examples)} rows ({_how(examples, seed)}){lost}")


def _how(examples: Examples, seed: int) -> str:
    return f"seed {seed}, stratified" if examples.labels.dtype == np.int64 else f"seed {seed}"


def _strata(examples: Examples) -> list[Indices]:
    """The rows of each class; of a regression, all rows."""
    if examples.labels.dtype != np.int64:
        return [np.arange(len(examples))]
    return [np.flatnonzero(examples.labels == label) for label in np.unique(examples.labels)]


def _shuffle(strata: Sequence[Indices], seed: int) -> list[Indices]:
    generator = np.random.default_rng(seed)
    return [generator.permutation(rows) for rows in strata]


def _first(strata: Sequence[Indices], counts: Indices) -> Indices:
    first = [rows[:count] for rows, count in zip(strata, counts, strict=True)]
    return np.asarray(np.sort(np.concatenate(first)), dtype=np.int64)


def _share(count: int, sizes: Indices, *, least: Indices, most: Indices) -> Indices:
    """Share ``count`` out in proportion to ``sizes`` by the largest remainders, within the bounds."""
    exact = count * sizes / sizes.sum()
    shares: Indices = np.clip(np.floor(exact).astype(np.int64), least, most)
    while shares.sum() != count:
        step = 1 if shares.sum() < count else -1
        is_open = shares < most if step == 1 else shares > least
        if not is_open.any():
            break
        shares[np.argmax(np.where(is_open, step * (exact - shares), -np.inf))] += step
    return shares


def _fingerprint(splits: dict[str, Examples], labels: tuple[str, ...]) -> str:
    digest = hashlib.sha256(json.dumps(labels).encode())
    for name in (*SPLITS, *(name for name in splits if name not in SPLITS)):
        rows = [name, splits[name].texts, splits[name].labels.tolist()]
        digest.update(json.dumps(rows).encode())
    return digest.hexdigest()
