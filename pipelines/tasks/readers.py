"""Read one table of texts and labels, from a file, a folder or the Hub. Every cell comes as text.

Cells of csv, tsv and jsonl stay as written (``yes``, ``1``, ``3e-5``); typed cells of parquet and the Hub are
written as JSON writes them (``1``, ``true``, ``0.5``). What is missing (null, NaN, a key that a line lacks)
is None.
"""

import codecs
import csv
import io
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.errors import InputError, nearest
from pipelines.locations import DOWNLOAD, NO_FILE, is_address, resolve_location
from pipelines.tasks.parquet import MOST_BYTES, cells_of, check_table, read_parquet, too_large
from pipelines.tasks.task import SPLITS, Hub, Task

Column = list[str | None]
_field_limit = threading.Lock()
_SEPARATORS = re.compile(r"[;,|\t]")
Wanted = Mapping[str, str]  # the columns to read, each with the key that errors about it name


@dataclass(frozen=True, kw_only=True)
class Table:
    """The cells of one split: a list per text column, the labels, and the groups where a task has some; all
    of one length.
    """

    texts: tuple[Column, ...]
    labels: Column
    notes: tuple[str, ...] = ()
    groups: Column | None = None

    def __len__(self) -> int:
        return len(self.labels)


def read_table(source: str, task: Task, place: str) -> Table:
    """Read a csv, tsv, jsonl or parquet file, or a folder with one folder of .txt files per class.

    csv is RFC 4180 (quoted fields may hold commas, quotes and line ends); tsv has no quoting: a tab always
    ends a field and a line end a row. Both start with the column names. Text is UTF-8, with or without a
    byte order mark; a folder's file that is not is read as Latin-1, and counted in the notes.

    Args:
        source: a path, or ``package:NAME/PATH`` inside an installed package (which is not imported).
        task: names the columns.
        place: the key that errors name, as ``tickets.files.train``.

    Raises:
        InputError: no such file, a column it does not have, or rows that cannot be read (with their line).
    """
    path = _find(source, place)
    if path.is_dir():
        return _read_folder(path, task, place)
    return _table(read_columns(source, _wanted(task), place), task)


def _wanted(task: Task) -> Wanted:
    group = {} if task.group is None else {task.group: "split.group"}
    return {**group, **dict.fromkeys(task.text, f"{task.name}.text"), task.label: f"{task.name}.label"}


def _table(columns: Sequence[Column], task: Task) -> Table:
    cells = dict(zip(_wanted(task), columns, strict=True))
    groups = None if task.group is None else cells[task.group]
    return Table(texts=tuple(cells[name] for name in task.text), labels=cells[task.label], groups=groups)


def read_columns(source: str, wanted: Wanted, place: str) -> tuple[Column, ...]:
    """Read columns of a csv, tsv, jsonl or parquet file, as `read_table` does.

    Raises:
        InputError: as `read_table`; and for a folder.
    """
    path = _find(source, place)
    reader = READERS.get(path.suffix.lower())
    if reader is None or path.is_dir():
        fix = f"Give a folder or one of {', '.join(READERS)}."
        raise InputError(place, source, f"files that end in {path.suffix!r} cannot be read", fix)
    if not path.is_file():
        raise InputError(place, str(path), "is no plain file", "Give a file that can be read twice.")
    try:
        return reader(path, wanted, place)
    except OSError as error:
        fix = "Check the file and its permissions."
        raise InputError(place, str(path), f"cannot be read: {error.strerror or error}", fix) from error


def _find(source: str, place: str) -> Path:
    if is_address(source):
        raise InputError(place, source, NO_FILE, DOWNLOAD)
    path = Path(resolve_location(source, key=place))
    if not path.exists():
        if not path.parent.is_dir():
            raise InputError(place, str(path), "no such file: its folder does not exist", "Correct the path.")
        fix = nearest(path.name, sorted(entry.name for entry in path.parent.iterdir())[:20])
        raise InputError(place, str(path), "no such file", fix)
    return path


def _read_csv(path: Path, wanted: Wanted, place: str) -> tuple[Column, ...]:
    text = _read_text(path, place)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)

    def rows() -> Iterator[tuple[int, list[str]]]:
        while True:
            line = reader.line_num + 1  # where the row begins: an unclosed quote runs on to the end
            try:
                yield line, next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                fix = 'Quote fields as "...", and a quote inside them as "", or write jsonl.'
                raise InputError(place, str(path), f"line {line} is not valid csv: {error}", fix) from error

    with long_fields(len(text)):
        return _from_rows(rows(), path, wanted, place)


@contextmanager
def long_fields(most: int) -> Iterator[None]:
    """Let the csv module read fields of up to ``most`` characters: its own limit, 131,072, is the process's.

    It is put back afterwards; of our threads one at a time changes it.
    """
    with _field_limit:
        before = csv.field_size_limit()
        csv.field_size_limit(max(before, most))
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _read_tsv(path: Path, wanted: Wanted, place: str) -> tuple[Column, ...]:
    lines = _read_text(path, place).replace("\r\n", "\n").split("\n")
    rows = ((number, line.split("\t") if line else []) for number, line in enumerate(lines, start=1))
    return _from_rows(rows, path, wanted, place)


def _from_rows(
    rows: Iterator[tuple[int, list[str]]], path: Path, wanted: Wanted, place: str
) -> tuple[Column, ...]:
    """A header and its rows, each with the line it begins at; blank lines are passed over."""
    filled = ((line, row) for line, row in rows if row)
    _, header = next(filled)
    if len(header) == 1 and not {*wanted} <= {*header} and (mark := _SEPARATORS.search(header[0])):
        rule = f"has one column, {header[0]!r}: it seems to be separated by {mark[0]!r}"
        raise InputError(place, str(path), rule, "Save it with commas as .csv, or with tabs as .tsv.")
    picked = _check_columns(header, wanted, path.as_posix())
    cells: list[list[str]] = []
    for line, row in filled:
        if len(row) != len(header):
            rule = f"line {line} has {len(row)} fields, the header {len(header)}"
            raise InputError(place, str(path), rule, "Give every row as many fields as there are columns.")
        cells.append(row)
    indices = [header.index(name) for name in picked]
    return tuple([row[index] for row in cells] for index in indices)


def _read_jsonl(path: Path, wanted: Wanted, place: str) -> tuple[Column, ...]:
    names: dict[str, None] = {}  # in the order they are met
    rows: list[dict[str, str | None]] = []
    for line, text in enumerate(_read_text(path, place).split("\n"), start=1):
        if not text.strip():
            continue
        fix = "Write one JSON object a line."
        try:
            row = _read_object(text)
            for name in wanted:
                if isinstance(cell := row.get(name), (list, dict)):
                    fix = "Give each cell as one text, number or true/false."
                    raise ValueError(f": {name!r} holds {json.dumps(cell)[:40]}")
        except (ValueError, RecursionError) as error:
            what = " is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise InputError(place, str(path), f"line {line}{what}", fix) from error
        names.update(dict.fromkeys(row))
        rows.append({name: _cell(row.get(name)) for name in wanted})
    picked = _check_columns(list(names), wanted, path.as_posix())
    return tuple([row[name] for row in rows] for name in picked)


def _read_object(text: str) -> dict[str, Any]:
    """A line's JSON object; its numbers stay as written. Raises ValueError with what it is instead."""
    try:
        row = json.loads(text, parse_int=str, parse_float=str, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f" is not valid JSON: {error.msg} at character {error.colno}") from error
    if not isinstance(row, dict):
        raise ValueError(" is no JSON object")
    return row


def _constant(name: str) -> str | None:
    """NaN is missing, as in parquet; Infinity stays as written."""
    return None if name == "NaN" else name


def _read_parquet(path: Path, wanted: Wanted, place: str) -> tuple[Column, ...]:
    table = read_parquet(path, lambda names: _check_columns(names, wanted, path.as_posix()), place)
    return _from_arrow(table, wanted, path.as_posix())


READERS: dict[str, Callable[[Path, Wanted, str], tuple[Column, ...]]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
}


def any_of(stem: str) -> str:
    """A file of this stem in any format, as messages name it: ``train.parquet (or csv, tsv, jsonl)``."""
    first, *others = READERS
    return f"{stem}{first} (or {', '.join(ending[1:] for ending in others)})"


def _read_folder(folder: Path, task: Task, place: str) -> Table:
    """``folder/<class>/*.txt``, in the order of their names."""
    if len(task.text) > 1:
        fix = f"Give a file that ends in one of {', '.join(READERS)}."
        raise InputError(place, str(folder), "a folder per class holds one text a row, not pairs", fix)
    if task.group is not None:
        rule = f"{folder} is a folder per class, whose texts have no columns"
        raise InputError("split.group", task.group, rule, f"Give {any_of('train')} with this column.")
    paths = sorted(path for path in folder.glob("*/*.txt") if path.is_file() and path.parent.name[0] != ".")
    if not paths:
        fix = "Put the texts of each class into a folder of its name."
        raise InputError(place, str(folder), "holds no <class>/*.txt", fix)
    if (size := sum(path.stat().st_size for path in paths)) > MOST_BYTES:
        rule = f"holds {size / 1e9:.1f} GB of texts, over the {MOST_BYTES / 1e9:g} GB of one table"
        raise too_large(folder, rule, place)
    texts: Column = []
    latin = 0
    for path in paths:
        data = path.read_bytes()
        _refuse_utf16(data, path, place)
        try:
            texts.append(data.decode("utf-8-sig"))
        except UnicodeDecodeError:
            texts.append(data.decode("latin-1"))
            latin += 1
    notes = (f"{latin} of {len(paths)} files are not UTF-8, read as Latin-1",) if latin else ()
    return Table(texts=(texts,), labels=[path.parent.name for path in paths], notes=notes)


def load_hub(hub: Hub, place: str) -> Any:
    """The dataset's splits by its names for them, as `datasets.load_dataset` gives them.

    Raises:
        InputError: it does not exist or cannot be fetched; or, in a local folder, a parquet file unpacks to
            more than one table may have, and `datasets` unpacks it before it can be asked.
    """
    for path in sorted(Path(hub.path).glob("**/*.parquet")):
        if path.is_file() and not any(part[0] == "." for part in path.relative_to(hub.path).parts):
            read_parquet(path, list, f"{place}.path")
    import datasets  # here only: slow to import, and nothing else needs it

    try:
        return datasets.load_dataset(hub.path, hub.config, revision=hub.revision)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        rule = f"cannot be loaded: {str(error).splitlines()[0]}"
        fix = "Check path, config and network, or give the task files or a data_dir."
        raise InputError(f"{place}.path", hub.path, rule, fix) from error


def read_hub(hub: Hub, task: Task, place: str) -> dict[str, Table]:
    """The splits that ``hub`` names, by our names for them, and the task's ``also`` that are there.

    The dataset's own label names are used. A label of -1 means "not labelled" where labels have names, and
    where a whole split has no other.

    Raises:
        InputError: the dataset, a split or a column does not exist, cannot be fetched, or is too large.
    """
    loaded = load_hub(hub, place)
    task = replace(task, text=hub.text or task.text)
    tables = {}
    asked = [*zip(SPLITS, (hub.train, hub.validation, hub.test), strict=True)]
    for split, name in (*asked, *((name, name) for name in task.also if name in loaded)):
        if name is None:
            continue
        if name not in loaded:
            fix = nearest(name, loaded) + ("" if split == "train" else " Or null, to have it cut from train.")
            raise InputError(f"{place}.{split}", name, f"{hub.path} has no such split", fix)
        rows = loaded[name]
        picked = _check_columns(rows.column_names, _wanted(task), hub.path)
        arrow = rows.select_columns(list(picked)).with_format("arrow")[:]
        check_table(arrow, f"{hub.path}, {name}", f"{place}.{split}")
        table = _table(_from_arrow(arrow, _wanted(task), hub.path), task)
        names = hub.labels or tuple(getattr(rows.features[task.label], "names", None) or ())
        tables[split] = replace(table, labels=_name_labels(table.labels, names, f"{place}.labels"))
    return tables


def _name_labels(labels: Column, names: Sequence[str], place: str) -> Column:
    if not set(labels) - {"-1", "-1.0", None}:
        return [None] * len(labels)
    if not names:
        return labels
    known: dict[str | None, str | None] = {str(index): name for index, name in enumerate(names)}
    known |= {"-1": None, None: None} | {name: name for name in names}
    for label in labels:
        if label not in known:
            fix = f"Name every label, in order; there are {len(names)} names."
            raise InputError(place, label, "a label that has no name", fix)
    return [known[label] for label in labels]


def _read_text(path: Path, place: str) -> str:
    if (size := path.stat().st_size) > MOST_BYTES:
        raise too_large(
            path, f"has {size / 1e9:.1f} GB, over the {MOST_BYTES / 1e9:g} GB of one table", place
        )
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    _refuse_utf16(data, path, place)
    if not data.strip():
        raise InputError(place, str(path), "the file is empty", "Give a file with rows.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        rule = f"line {line} holds byte 0x{data[error.start]:02x}, which is not UTF-8"
        raise InputError(place, str(path), rule, "Save the file as UTF-8.") from error


def _refuse_utf16(data: bytes, path: Path, place: str) -> None:
    """Whole files begin with its mark, or with an ASCII character of it."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or data[:2].count(0) == 1:
        rule = "is no UTF-8: it looks like UTF-16, which Excel calls Unicode text"
        raise InputError(place, str(path), rule, "Save it as UTF-8 (in Excel: 'CSV UTF-8').")


def _check_columns(names: Sequence[str], wanted: Wanted, source: str) -> tuple[str, ...]:
    """The wanted columns, all of which the source has, once each."""
    for name, key in wanted.items():
        if names.count(name) > 1:
            rule = f"{source} has {names.count(name)} columns of this name"
            raise InputError(key, name, rule, "Rename all but one.")
        if name not in names:
            there = ", ".join(map(repr, names[:20]))
            rule = f"no such column in {source}, which has {there}"
            raise InputError(key, name, rule, nearest(name, names))
    return tuple(wanted)


def _from_arrow(table: pa.Table, wanted: Wanted, source: str) -> tuple[Column, ...]:
    def column(name: str) -> Column:
        kind = table.schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        plain = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_boolean)
        numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
        if not any(is_kind(kind) for is_kind in (*plain, *numbers)):
            rule = f"the column holds {kind} in {source}"
            raise InputError(wanted[name], name, rule, "Name a column of texts, numbers or true/false.")
        cells = cells_of(table.column(name))
        return cells if any(is_kind(kind) for is_kind in plain[:3]) else [_cell(cell) for cell in cells]

    return tuple(column(name) for name in wanted)


def _cell(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None or value != value else str(value)
