"""Rows of span tasks: questions about contexts that hold their answers, as in SQuAD v1.1."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import InputError, raise_problems
from pipelines.locations import resolve_location
from pipelines.tasks.rows import Source, find_sources
from pipelines.tasks.task import SPLITS, Hub, SplitRule, Task

COLUMNS = ("id", "title", "context", "question", "answers_text", "answer_starts")
SQUAD_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in COLUMNS[:4]),
        ("answers_text", pa.list_(pa.string())),
        ("answer_starts", pa.list_(pa.int64())),
    ]
)
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class SpanExample:
    """A question, its context, and its reference answers with the character each is said to start at."""

    id: str
    title: str
    context: str
    question: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Where in the context the answers are, (start, end) in characters; without those that are not."""
        spans = ((start, start + len(text)) for start, text in zip(self.starts, self.answers, strict=True))
        return tuple(
            (start, end)
            for (start, end), text in zip(spans, self.answers, strict=True)
            if text and start >= 0 and self.context[start:end] == text
        )


Split = tuple[SpanExample, ...]


@dataclass(frozen=True, kw_only=True)
class SpanData:
    """A span task with its rows; ``notes`` say what was done to them, ``fingerprint`` is their SHA-256."""

    task: Task
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...]
    fingerprint: str
    labels: tuple[str, ...] = ()  # no classes
    outputs: int = 2  # a head's width: a token's logits as the first and as the last of the answer


def read_span_task(task: Task, *, data_dir: str | None = None, split: SplitRule | None = None) -> SpanData:
    """Read a span task's three splits, from where `pipelines.tasks.rows.read_task` looks.

    Files are parquet with the columns of `SQUAD_SCHEMA`, or SQuAD's own JSON. A missing split is cut from
    train by whole articles (contexts, where rows have no title), so that no context is on two sides; then
    ``task.limit`` is applied. Training questions whose answers are all not where they are said to be are left
    out; validation and test keep theirs, as the official script scores by text.

    Raises:
        InputError, InputErrors: rows that cannot be read, or questions without context or answer.
    """
    rule = split or SplitRule()
    sources = find_sources(task, data_dir)
    tables, problems = _read_tables(task, sources)
    splits: dict[str, Split] = {}
    for name, rows in tables.items():
        try:
            splits[name] = _examples(rows, sources[name])
        except InputError as problem:
            problems.append(problem)
    raise_problems(problems)

    notes: list[str] = []
    _cut_missing(splits, task, rule, notes)
    _limit(splits, task, rule.seed, notes)
    kept = tuple(one for one in splits["train"] if one.places)
    for name in SPLITS:
        lost = sum(len(one.answers) - len(one.places) for one in splits[name])
        if lost:
            notes.append(f"{name}: {lost} answers are not where they are said to be in their context")
        if name == "train" and (gone := len(splits["train"]) - len(kept)):
            notes.append(
                f"train: {gone} of {len(splits['train'])} questions left out: none of their answers is"
            )
    if not kept:
        fix = "Check answer_starts: they count characters of the context, from 0."
        raise InputError(f"{task.name}.train", len(splits["train"]), "no answer is in its context", fix)
    return SpanData(
        task=task,
        train=kept,
        validation=splits["validation"],
        test=splits["test"],
        notes=tuple(notes),
        fingerprint=_fingerprint({**splits, "train": kept}),
    )


def read_squad_json(path: Path, place: str) -> list[dict[str, Any]]:
    """The questions of an official SQuAD v1.1 file, in its order: rows of `SQUAD_SCHEMA`.

    Raises:
        InputError: it is no such file.
    """
    try:
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
        return [
            {
                "id": str(question["id"]),
                "title": str(article["title"]),
                "context": str(paragraph["context"]),
                "question": str(question["question"]),
                "answers_text": [str(answer["text"]) for answer in question["answers"]],
                "answer_starts": [int(answer["answer_start"]) for answer in question["answers"]],
            }
            for article in articles
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        what = f"no {error} in it" if isinstance(error, KeyError) else str(error)
        fix = "Get the file again, as it was published."
        raise InputError(place, str(path), f"is not in SQuAD's format: {what}", fix) from error


def _read_tables(
    task: Task, sources: Mapping[str, Source]
) -> tuple[dict[str, Sequence[Row]], list[InputError]]:
    hub = sources["train"].rows
    if isinstance(hub, Hub):
        return _read_hub(hub, f"{task.name}.hub"), []
    tables: dict[str, Sequence[Row]] = {}
    problems = []
    for name, source in sources.items():
        try:
            tables[name] = _read_file(str(source.rows), source.place)
        except InputError as problem:
            problems.append(problem)
    return tables, problems


def _read_file(source: str, place: str) -> Sequence[Row]:
    path = Path(resolve_location(source, key=place))
    if not path.is_file():
        raise InputError(place, str(path), "no such file", "Correct the path.")
    if path.suffix.lower() == ".json":
        return read_squad_json(path, place)
    if path.suffix.lower() != ".parquet":
        fix = "Give parquet, or SQuAD's JSON."
        raise InputError(place, str(path), "rows of a span task cannot be read from it", fix)
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        rule = f"is not valid parquet: {str(error).splitlines()[0]}"
        raise InputError(place, str(path), rule, "Write the file again.") from error
    missing = [name for name in COLUMNS[2:] if name not in table.schema.names]
    if missing:
        rule = f"has no column {missing[0]!r}, but {', '.join(map(repr, table.schema.names[:20]))}"
        raise InputError(place, str(path), rule, f"Write the columns {', '.join(COLUMNS)}.")
    rows: Sequence[Row] = table.select([name for name in COLUMNS if name in table.schema.names]).to_pylist()
    return rows


def _read_hub(hub: Hub, place: str) -> dict[str, Sequence[Row]]:
    from pipelines.tasks.readers import load_hub

    loaded = load_hub(hub, place)
    tables: dict[str, Sequence[Row]] = {}
    for split, name in zip(SPLITS, (hub.train, hub.validation, hub.test), strict=True):
        if name is None:
            continue
        if name not in loaded:
            fix = "Name one it has, or null to have it cut from train."
            raise InputError(f"{place}.{split}", name, f"{hub.path} has no such split", fix)
        rows = loaded[name].to_list()
        if rows and not {"context", "question", "answers"} <= rows[0].keys():
            fix = "Name a dataset with the columns of SQuAD: context, question, answers."
            raise InputError(f"{place}.path", hub.path, "is not in SQuAD's format", fix)
        tables[split] = [
            {**row, "answers_text": row["answers"]["text"], "answer_starts": row["answers"]["answer_start"]}
            for row in rows
        ]
    return tables


def _examples(rows: Sequence[Row], source: Source) -> Split:
    tests: tuple[tuple[str, Callable[[Row], bool]], ...] = (
        ("no context", lambda row: not (row["context"] or "").strip()),
        ("no question", lambda row: not (row["question"] or "").strip()),
        ("no answer", lambda row: not any(text and text.strip() for text in row["answers_text"] or ())),
        (
            "not one start for each answer",
            lambda row: len(row["answers_text"] or ()) != len(row["answer_starts"] or ()),
        ),
    )
    if not rows:
        raise InputError(source.place, source.name, "holds no rows", "Add rows, or leave the split out.")
    for what, is_bad in tests:
        bad = [number for number, row in enumerate(rows, start=1) if is_bad(row)]
        if bad:
            first = ", ".join(map(str, bad[:5]))
            rule = f"{len(bad)} of {len(rows)} questions have {what}: row {first}"
            raise InputError(source.place, source.name, rule, "Fill in or remove these rows.")
    return tuple(
        SpanExample(
            id=str(row.get("id") or number),
            title=str(row.get("title") or ""),
            context=row["context"],
            question=row["question"],
            answers=tuple(text or "" for text in row["answers_text"]),
            starts=tuple(-1 if start is None else int(start) for start in row["answer_starts"]),
        )
        for number, row in enumerate(rows, start=1)
    )


def _cut_missing(splits: dict[str, Split], task: Task, rule: SplitRule, notes: list[str]) -> None:
    """Cut each missing split from train, by whole articles, in place."""
    train = splits["train"]
    articles: dict[str, list[int]] = {}
    for row, example in enumerate(train):
        articles.setdefault(example.title or example.context, []).append(row)
    names = sorted(articles)
    order = [names[index] for index in np.random.default_rng(rule.seed).permutation(len(names))]
    left = set(range(len(train)))
    for name, fraction in (("test", rule.test), ("validation", rule.validation)):
        if name in splits:
            continue
        wanted, rows = max(1, math.floor(len(train) * fraction + 0.5)), set[int]()
        while len(rows) < wanted and order:
            rows.update(articles[order.pop()])
        if not rows or not order:
            reason = f"train's {len(names)} articles are too few to cut any from"
            raise InputError(f"{task.name}.{name}", None, reason, f"Add rows, or give a {name} split.")
        left -= rows
        splits[name] = tuple(train[row] for row in sorted(rows))
        notes.append(
            f"{name}: {len(rows)} of {len(train)} rows cut from train (seed {rule.seed}, by article)"
        )
    splits["train"] = tuple(train[row] for row in sorted(left))


def _limit(splits: dict[str, Split], task: Task, seed: int, notes: list[str]) -> None:
    """Keep a seeded sample of each split that is over its limit, in place and in order."""
    for name in SPLITS:
        examples, count = splits[name], task.limit.get(name)
        if count is not None and count < len(examples):
            rows = np.random.default_rng(seed).permutation(len(examples))[:count]
            splits[name] = tuple(examples[row] for row in sorted(rows))
            notes.append(f"{name}: limited to {count} of {len(examples)} rows (seed {seed})")


def _fingerprint(splits: Mapping[str, Split]) -> str:
    digest = hashlib.sha256()
    for name in SPLITS:
        digest.update(json.dumps([name, [astuple(one) for one in splits[name]]]).encode())
    return digest.hexdigest()
