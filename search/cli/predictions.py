"""Texts in, labels out: the reading and writing of `adaptune predict`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.tasks.readers import read_columns
from search.errors import UserError

if TYPE_CHECKING:
    from pipelines.bundle import Prediction


def read_rows(
    texts: Sequence[str], given: Path | None, columns: Sequence[str]
) -> list[str | tuple[str, ...]]:
    """The texts or pairs to predict, from the command line or from a file.

    A .txt file is a text a line; others need the bundle's text columns, by name.

    Raises:
        UserError, InputError: there is nothing to predict, both were given, or the file cannot be used.
    """
    if bool(texts) == (given is not None):
        raise UserError("Give texts or --input FILE: one of the two.")
    if given is None:
        if len(columns) == 2:
            names = f"{columns[0]!r} and {columns[1]!r}"
            raise UserError(f"This bundle takes pairs: give --input FILE with the columns {names}.")
        if not all(text.strip() for text in texts):
            raise UserError("One of the texts is empty. Fill it in or leave it out.")
        return list(texts)
    if given.suffix.lower() == ".txt" and len(columns) == 1:
        cells: tuple[Sequence[str | None], ...] = (_read_lines(given),)
    else:
        cells = read_columns(str(given), dict.fromkeys(columns, "--input"), "--input")
    rows: list[str | tuple[str, ...]] = []
    for number, row in enumerate(zip(*cells, strict=True), start=1):
        if any(cell is None or not cell.strip() for cell in row):
            raise UserError(f"--input {given}: row {number} has an empty text. Fill it in or remove it.")
        filled = tuple(str(cell) for cell in row)
        rows.append(filled[0] if len(filled) == 1 else filled)
    if not rows:
        raise UserError(f"--input {given}: it has no rows. Give a file with at least one text.")
    return rows


def _read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file. Only line ends end a line; a text may hold Unicode's other separators."""
    if not path.is_file():
        raise UserError(f"--input {path}: no such file. Correct the path.")
    try:
        with path.open(encoding="utf-8-sig") as file:
            return [line.removesuffix("\n") for line in file]
    except UnicodeDecodeError as error:
        raise UserError(f"--input {path}: it is not UTF-8 ({error}). Save it as UTF-8.") from error


def prediction_lines(predictions: Sequence["Prediction"]) -> list[str]:
    """One JSON object a prediction: {"text", "label", "scores"}."""
    return [
        json.dumps({"text": one.text, "label": one.label, "scores": dict(one.scores)}, ensure_ascii=False)
        for one in predictions
    ]
