"""The command `predict`: texts in, labels out. Heavy imports happen inside it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.terminal import HERE, JsonOption, out
from search.errors import UserError

if TYPE_CHECKING:
    from pipelines.bundle import Prediction

commands = typer.Typer()


@commands.command(rich_help_panel=HERE)
def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to label.")] = None,
    given: Annotated[
        Path | None,
        typer.Option(
            "--input", help="csv, tsv, jsonl or parquet with the task's text columns, or txt (a text a line)."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write JSON lines to this new file.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="Where the encoder is now, if not where the bundle says.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Label texts with an exported adapter. Pairs and many texts come by --input."""
    from pipelines.bundle import AdapterBundle

    if output is not None and output.exists():
        raise UserError(f"{output} exists already. Choose another --output, or remove it first.")
    loaded = AdapterBundle.load(bundle, backbone=backbone)
    rows = read_rows(texts or [], given, loaded.config.text_columns)
    predictions = loaded.predict(rows)
    if as_json or output is not None:
        lines = prediction_lines(predictions)
        if output is None:
            print("\n".join(lines))
        else:
            output.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            out.print(f"{len(lines)} predictions in {output}", soft_wrap=True)
        return
    for one in predictions:
        text = loaded.config.rules.shorten((one.text,) if isinstance(one.text, str) else one.text)
        score = f"{max(one.scores.values()):.3f}" if one.scores else ""
        label = one.label if isinstance(one.label, str) else f"{one.label:.4f}"
        print(f"{label}\t{score}\t{text}")


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
    from pipelines.tasks.readers import has_surrogate, read_columns

    if given.suffix.lower() == ".txt" and len(columns) == 1:
        cells: tuple[Sequence[str | None], ...] = (_read_lines(given),)
    else:
        cells = read_columns(str(given), dict.fromkeys(columns, "--input"), "--input")
    rows: list[str | tuple[str, ...]] = []
    for number, row in enumerate(zip(*cells, strict=True), start=1):
        if any(cell is None or not cell.strip() for cell in row):
            raise UserError(f"--input {given}: row {number} has an empty text. Fill it in or remove it.")
        if any(has_surrogate(cell or "") for cell in row):
            half = f"row {number} has half a character (a lone surrogate)"
            raise UserError(f"--input {given}: {half}. Correct it or remove it.")
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
