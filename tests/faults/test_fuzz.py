"""Job files and data files changed at random: each is read, or refused in a message; none hangs."""

import contextlib
import io
import json
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jobs import write_job, write_topics
from tiny import toy_spans, write_spans

from pipelines.errors import InputError, InputErrors
from pipelines.tasks.rows import read_task
from pipelines.tasks.task import Files, Task
from search.errors import UserError
from search.job.job import SearchJob

FAST, FULL = 400, 6000  # inputs of each of the two kinds
HANG_SECONDS = 60
SEED = 20261125
SCALARS = (
    *("", "~", "-1", "0", "1e999", ".nan", ".inf", "3e-5", "yes", "null", "1_000", "0o17", "0x1F", "9" * 400),
    *("'", '"', "[", "{}", "[[]]", "!!python/x", "&a", "*a", "<<", "- -", "a: b: c", "%", "@", "`", "| x"),
    *("2001-01-01", "é\u200b", "\x07", "../..", "/dev/null/x", "package:nothing/here", "s3://", "hf://x"),
    *("{low: 1, high: 0}", "{low: 1e-9, high: .inf, log: true}"),
    *("NaN", '"\\ud83d"', "&a [*a]", "[" * 3000, '{"a":' * 3000, "0x" + "f" * 9000, "x" * 200_000, '"' * 3),
)


class Hang(BaseException):
    """An input that takes longer than any should."""


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    """Break off what takes a minute: `Hang` is caught by nobody else."""

    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def change(data: bytes, rng: random.Random) -> bytes:
    """A few random edits of bytes and of lines."""
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        data = rng.choice(EDITS)(data, rng)
    return data


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randint(0, len(data))]


def overwrite(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes(rng.randbytes(rng.randint(1, 4))) + data[at + rng.randint(0, 6) :]


def repeat(data: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(data))
    piece = data[start : start + rng.randint(1, 80)]
    return data[:start] + piece * rng.randint(2, 60) + data[start:]


def swap_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    rng.shuffle(lines)
    return b"\n".join(lines[: rng.randint(1, len(lines))])


def indent_a_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = b" " * rng.randint(0, 9) + lines[at].lstrip()
    return b"\n".join(lines)


def replace_a_value(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    key, colon, _ = lines[at].partition(b":")
    lines[at] = key + colon + b" " + rng.choice(SCALARS).encode()
    return b"\n".join(lines)


EDITS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    cut,
    overwrite,
    repeat,
    swap_lines,
    indent_a_line,
    replace_a_value,
    replace_a_value,
)


def check_job_files(folder: Path, count: int) -> Counter[str]:
    """Change a rich job file `count` times; how many were jobs all the same."""
    path = write_job(
        folder,
        split={"validation": 0.1, "test": 0.1, "seed": 0},
        confirm={"top": 1, "seeds": 2},
        budget={"minutes": 5},
        resources={"cpus": 1, "concurrent": 2},
        trial_timeout=3,
        cache={"gigabytes": 1},
        tracking={"experiment": "e"},
    )
    whole, outcomes = path.read_bytes(), Counter[str]()
    for number in range(count):
        rng = random.Random(SEED + number)
        path.write_bytes(change(whole, rng))
        with no_hang():
            try:
                SearchJob.load(path, storage=str(folder / "runs"))
                outcomes["job"] += 1
            except UserError as error:
                outcomes["refused" if str(error).strip() else "refused without a word"] += 1
            except Exception as error:
                raise AssertionError(f"input {number}: {path.read_bytes()!r}") from error
    assert not outcomes["refused without a word"]
    return outcomes


def data_files(folder: Path) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """A whole file of each format, and the task that reads it."""
    folder.mkdir(parents=True)
    write_topics(folder / "rows.csv", rows=40, seed=0)
    text = (folder / "rows.csv").read_text()
    rows = [dict(zip(("body", "topic"), line.split(","), strict=True)) for line in text.splitlines()[1:]]
    task = {"text": ("body",), "label": "topic"}
    numbers = [{"body": row["body"], "topic": len(row["body"]) / 3} for row in rows]
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), table)
    yield "rows.csv", text.encode(), task
    yield "rows.tsv", text.replace(",", "\t").encode(), task
    yield "rows.jsonl", "\n".join(map(json.dumps, rows)).encode(), task
    yield "rows.jsonl", "\n".join(map(json.dumps, numbers)).encode(), {**task, "kind": "regression"}
    yield "rows.parquet", table.getvalue(), task
    spans = {"kind": "span", "text": ("question", "context"), "label": "answers_text"}
    file = write_spans(folder / "spans.json", toy_spans(rows=12, validation_rows=2).train)
    yield "spans.json", file.read_bytes(), spans
    file = write_spans(folder / "spans.parquet", toy_spans(rows=12, validation_rows=2).train)
    yield "spans.parquet", file.read_bytes(), spans


def check_data_files(folder: Path, count: int) -> Counter[str]:
    """Change a data file of each format `count` times in all; how many could be read all the same."""
    outcomes = Counter[str]()
    files = list(data_files(folder / "whole"))
    for number in range(count):
        rng = random.Random(SEED + number)
        name, whole, given = files[number % len(files)]
        path = folder / name
        path.write_bytes(change(whole, rng))
        with no_hang():
            try:
                read_task(Task(name="fuzz", files=Files(train=str(path)), **given))
                outcomes["read"] += 1
            except (InputError, InputErrors) as error:
                outcomes["refused" if str(error).strip() else "refused without a word"] += 1
            except Exception as error:
                raise AssertionError(f"input {number}, {name}: {path.read_bytes()!r}") from error
    assert not outcomes["refused without a word"]
    return outcomes


@pytest.mark.integration
def test_changed_job_files_are_jobs_or_refused(tmp_path: Path) -> None:
    assert check_job_files(tmp_path, FAST).total() == FAST


@pytest.mark.integration
def test_changed_data_files_are_read_or_refused(tmp_path: Path) -> None:
    assert check_data_files(tmp_path, FAST).total() == FAST


@pytest.mark.faults
def test_thousands_of_changed_job_files_are_jobs_or_refused(tmp_path: Path) -> None:
    outcomes = check_job_files(tmp_path, FULL)
    print(outcomes)
    assert outcomes.total() == FULL


@pytest.mark.faults
def test_thousands_of_changed_data_files_are_read_or_refused(tmp_path: Path) -> None:
    outcomes = check_data_files(tmp_path, FULL)
    print(outcomes)
    assert outcomes.total() == FULL
