"""Rows of span tasks: questions about contexts that hold their answers, as in SQuAD v1.1."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.errors import InputError
from pipelines.locations import resolve_location
from pipelines.tasks.parquet import MOST_BYTES, cells_of, check_table, read_parquet, too_large
from pipelines.tasks.readers import load_hub
from pipelines.tasks.task import SPLITS, Hub, Source, Task
from pipelines.texts import has_surrogate

HALF_CHARACTER = "half a character (a lone surrogate)"
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


@dataclass(frozen=True)
class SpanTable:
    """The rows of one split, as they were read."""

    rows: Sequence[Row]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


def read_squad_json(path: Path, key: str) -> list[dict[str, Any]]:
    """The questions of an official SQuAD v1.1 file, in its order: rows of `SQUAD_SCHEMA`.

    Raises:
        InputError: it is no such file.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise too_large(path, f"has {size / 1e9:.1f} GB", key)
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
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"no {error} in it" if isinstance(error, KeyError) else str(error)
        fix = "Get the file again, as it was published."
        raise InputError(key, str(path), f"is not in SQuAD's format: {what}", fix) from error


def read_span_file(source: str, key: str) -> SpanTable:
    """Read a parquet file with the columns of `SQUAD_SCHEMA`, or SQuAD's own JSON.

    Raises:
        InputError: it is neither.
    """
    path = Path(resolve_location(source, key=key))
    if not path.is_file():
        raise InputError(key, str(path), "no such file", "Correct the path.")
    if path.suffix.lower() == ".json":
        return SpanTable(read_squad_json(path, key))
    if path.suffix.lower() != ".parquet":
        fix = "Give parquet, or SQuAD's JSON."
        raise InputError(key, str(path), "rows of a span task cannot be read from it", fix)

    def pick(names: Sequence[str]) -> list[str]:
        missing = [name for name in COLUMNS[2:] if name not in names]
        if missing:
            rule = f"has no column {missing[0]!r}, but {', '.join(map(repr, names[:20]))}"
            raise InputError(key, str(path), rule, f"Write the columns {', '.join(COLUMNS)}.")
        return [name for name in COLUMNS if name in names]

    table = read_parquet(path, pick, key)
    columns = [cells_of(column) for column in table.columns]
    return SpanTable([dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)])


def read_span_hub(hub: Hub, key: str) -> dict[str, SpanTable]:
    """The splits that ``hub`` names, by our names for them.

    Raises:
        InputError: the dataset or a split cannot be fetched, is too large, or is not in SQuAD's format.
    """
    loaded = load_hub(hub, key)
    tables: dict[str, SpanTable] = {}
    for split, name in zip(SPLITS, (hub.train, hub.validation, hub.test), strict=True):
        if name is None:
            continue
        if name not in loaded:
            fix = "Name one it has, or null to have it cut from train."
            raise InputError(f"{key}.{split}", name, f"{hub.path} has no such split", fix)
        arrow = loaded[name].with_format("arrow")[:]
        check_table(arrow, f"{hub.path}, {name}", f"{key}.{split}")
        rows = arrow.to_pylist()
        if rows and not {"context", "question", "answers"} <= rows[0].keys():
            fix = "Name a dataset with the columns of SQuAD: context, question, answers."
            raise InputError(f"{key}.path", hub.path, "is not in SQuAD's format", fix)
        columns = {"answers_text": "text", "answer_starts": "answer_start"}
        answers = [row["answers"] if isinstance(row["answers"], Mapping) else {} for row in rows]
        tables[split] = SpanTable(
            [
                {**row, **{ours: of_row.get(name) for ours, name in columns.items()}}
                for row, of_row in zip(rows, answers, strict=True)
            ]
        )
    return tables


def span_problems(table: SpanTable, source: Source) -> list[InputError]:
    """Questions that lack something; the first thing that some lack."""
    tests: tuple[tuple[str, Callable[[Row], bool]], ...] = (
        ("a context that is no text", lambda row: not isinstance(row["context"], str | None)),
        ("a question that is no text", lambda row: not isinstance(row["question"], str | None)),
        ("answers_text that is no list of texts", lambda row: not _are(row["answers_text"], _is_text)),
        (
            "answer_starts that is no list of whole numbers",
            lambda row: not _are(row["answer_starts"], _is_whole),
        ),
        (HALF_CHARACTER, is_cut),
        ("no context", lambda row: not (row["context"] or "").strip()),
        ("no question", lambda row: not (row["question"] or "").strip()),
        ("no answer", lambda row: not any(text and text.strip() for text in row["answers_text"] or ())),
        (
            "not one start for each answer",
            lambda row: len(row["answers_text"] or ()) != len(row["answer_starts"] or ()),
        ),
    )
    for what, is_bad in tests:
        bad = [number for number, row in enumerate(table.rows, start=1) if is_bad(row)]
        if bad:
            first = ", ".join(map(str, bad[:5]))
            rule = f"{len(bad)} of {len(table)} questions have {what}: row {first}"
            return [InputError(source.key, source.name, rule, "Fill in or remove these rows.")]
    return []


def _are(cell: object, is_good: Callable[[object], bool]) -> bool:
    """Whether a cell is a list of what is good, or missing; in a list a value may be missing too."""
    return cell is None or (isinstance(cell, list) and all(value is None or is_good(value) for value in cell))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())  # pandas writes 4.0


def is_cut(row: Row) -> bool:
    """Whether one of a row's texts was cut within a character."""
    texts = (row["context"], row["question"], row.get("id"), row.get("title"), *(row["answers_text"] or ()))
    return any(isinstance(text, str) and has_surrogate(text) for text in texts)


def span_examples(table: SpanTable) -> tuple[SpanExample, ...]:
    """A checked table's."""
    return tuple(
        SpanExample(
            id=str(row.get("id") or number),
            title=str(row.get("title") or ""),
            context=row["context"],
            question=row["question"],
            answers=tuple(text or "" for text in row["answers_text"]),
            starts=tuple(-1 if start is None else int(start) for start in row["answer_starts"]),
        )
        for number, row in enumerate(table.rows, start=1)
    )


def drop_unanswered(splits: dict[str, tuple[SpanExample, ...]], task: Task, notes: list[str]) -> None:
    """Leave out, in place, training questions whose answers are all not where they are said to be.

    Validation and test keep theirs, as the official script scores by text.

    Raises:
        InputError: none is left.
    """
    train = splits["train"]
    kept = tuple(example for example in train if example.places)
    for name in SPLITS:
        lost = sum(len(example.answers) - len(example.places) for example in splits[name])
        if lost:
            notes.append(f"{name}: {lost} answers are not where they are said to be in their context")
        if name == "train" and (gone := len(train) - len(kept)):
            notes.append(f"train: {gone} of {len(train)} questions left out: none of their answers is")
    if not kept:
        fix = "Check answer_starts: they count characters of the context, from 0."
        raise InputError(f"{task.name}.train", len(train), "no answer is in its context", fix)
    splits["train"] = kept
