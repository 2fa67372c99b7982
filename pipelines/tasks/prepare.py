"""Turn a registered task's public file into our layout: `<out>/<task>/{train,validation,test}.parquet`."""

import csv
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import InputError, nearest
from pipelines.tasks.raw import PLACE, PUBLIC_FILES, RawRows
from pipelines.tasks.registry import Sizes, registered_entry, registered_tasks
from pipelines.tasks.span_rows import HALF_CHARACTER, SQUAD_SCHEMA, is_cut, read_squad_json
from pipelines.tasks.task import SPLITS

DROPPED = "dropped.csv"
SQUAD = "squad_v1"
_SQUAD_FILES = {"train": "train-v1.1.json", "validation": "dev-v1.1.json"}


@dataclass(frozen=True)
class Prepared:
    """What came of a public file.

    Attributes:
        folder: holds the splits, and ``dropped.csv`` (row, reason) where rows were dropped.
        sizes: rows by split, as written.
        paper: the paper's.
        classes: how many there are; 0 for spans.
        dropped: row numbers by reason, rows counted from 1 without the header.
    """

    folder: Path
    sizes: Mapping[str, int]
    paper: Sizes
    classes: int
    paper_classes: int
    dropped: Mapping[str, tuple[int, ...]]

    @property
    def is_the_papers(self) -> bool:
        """Whether sizes and the number of classes are the paper's."""
        found = tuple(self.sizes.get(split, 0) for split in SPLITS)
        return (found, self.classes) == (self.paper, self.paper_classes)


def prepare(name: str, source: Path, out: Path) -> Prepared:
    """Read a task's public file and write its splits.

    One random permutation (numpy's ``RandomState(0)``), not stratified: eight tenths are for training and the
    rest is halved, which gives the sizes of Table 3 where the file has the paper's rows. A file that has
    more is cut to them. Nothing is written before the whole file is read, and nothing is written over.

    Raises:
        InputError: no such task, no public file is needed for it, a file that is not the published one, or a
            folder that has splits already.
    """
    entry = registered_entry(name)
    if not entry.prepared:
        fix = f"It comes from {entry.source}: leave data_dir out, or put its splits there yourself."
        others = ", ".join(task.name for task in registered_tasks() if registered_entry(task.name).prepared)
        raise InputError("TASK", name, f"needs no public file prepared; those that do: {others}", fix)
    folder = out / name
    taken = [path.name for path in folder.glob("*") if path.stem in SPLITS or path.name == DROPPED]
    if taken or folder.is_file():
        rule = f"has {', '.join(sorted(taken)) or 'a file of this name'} already"
        raise InputError("--out", str(folder), rule, "Give another folder, or remove it first.")
    if not source.exists():
        raise InputError(PLACE, str(source), "no such file or folder", "Correct the path.")
    if name == SQUAD:
        tables, dropped = _squad(source)
        classes = 0
    else:
        rows = PUBLIC_FILES[name].read(source)
        dropped = list(rows.dropped)
        splits = _split(rows, entry.sizes, dropped)
        tables = {
            split: pa.table(
                {"text": [rows.texts[row] for row in part], "label": [rows.labels[row] for row in part]}
            )
            for split, part in splits.items()
        }
        classes = len({rows.labels[row] for part in splits.values() for row in part})
    _write(folder, tables, dropped)
    reasons: dict[str, list[int]] = {}
    for number, reason in sorted(dropped):
        reasons.setdefault(reason, []).append(number)
    return Prepared(
        folder=folder,
        sizes={split: table.num_rows for split, table in tables.items()},
        paper=entry.sizes,
        classes=classes,
        paper_classes=entry.classes,
        dropped={reason: tuple(numbers) for reason, numbers in reasons.items()},
    )


def _split(rows: RawRows, paper: Sizes, dropped: list[tuple[int, str]]) -> dict[str, list[int]]:
    """Rows by split, as indices into the kept ones; what finds no place is dropped with its reason."""
    order = np.random.RandomState(0).permutation(len(rows.texts)).tolist()
    count = min(len(order), sum(paper))
    dropped += [
        (rows.numbers[row], f"beyond the paper's {sum(paper):,} rows (drawn by seed 0)")
        for row in order[count:]
    ]
    train = count * 8 // 10
    validation = (count - train) // 2
    if not validation:
        rule = f"holds {len(order)} usable rows, of {len(order) + len(dropped)}: too few to split"
        first = f" ({dropped[0][1]} in row {dropped[0][0]})" if dropped else ""
        raise InputError(PLACE, str(len(order)), rule + first, "Check that this is the published file.")
    parts = (order[:train], order[train : train + validation], order[train + validation : count])
    splits = dict(zip(SPLITS, parts, strict=True))
    trained = {rows.labels[row] for row in splits["train"]}
    for split in ("validation", "test"):
        dropped += [
            (rows.numbers[row], "its class has no row in train")
            for row in splits[split]
            if rows.labels[row] not in trained
        ]
        splits[split] = [row for row in splits[split] if rows.labels[row] in trained]
    return splits


def _squad(source: Path) -> tuple[dict[str, pa.Table], list[tuple[int, str]]]:
    """SQuAD keeps its own split; its test set is not public."""
    tables: dict[str, pa.Table] = {}
    dropped: list[tuple[int, str]] = []
    for split, name in _SQUAD_FILES.items():
        path = source / name
        if not path.is_file():
            fix = f"Give the folder that holds {' and '.join(_SQUAD_FILES.values())}."
            there = sorted(entry.name for entry in source.glob("*.json")) if source.is_dir() else []
            close = f" {nearest(name, there)}" if there else ""
            raise InputError(PLACE, str(source), f"holds no {name}.{close}".rstrip("."), fix)
        rows = read_squad_json(path, PLACE)
        kept = []
        for number, row in enumerate(rows, start=1):
            if reason := "no answer" if not row["answers_text"] else HALF_CHARACTER if is_cut(row) else "":
                dropped.append((number, f"{name}: {reason}"))
            else:
                kept.append(row)
        tables[split] = pa.Table.from_pylist(kept, schema=SQUAD_SCHEMA)
    return tables, dropped


def _write(folder: Path, tables: Mapping[str, pa.Table], dropped: Sequence[tuple[int, str]]) -> None:
    """All of the files or none: they are written beside the folder and moved."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".preparing-", dir=folder.parent))
    except OSError as error:
        rule = f"cannot be written: {error.strerror or error}"
        raise InputError("--out", str(folder), rule, "Give a folder you may write to.") from error
    try:
        for split, table in tables.items():
            pq.write_table(table, staged / f"{split}.parquet", compression="zstd")
        if dropped:
            with (staged / DROPPED).open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("row", "reason"))
                writer.writerows(sorted(dropped))
        for path in staged.iterdir():
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
