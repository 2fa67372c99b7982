"""The command `predict`: texts in, labels out. Heavy imports happen inside it."""

import io
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand
from typer.exceptions import TyperException

from pipelines.texts import has_surrogate
from search.cli.terminal import HERE, JsonOption, local_path, out, write, writes_utf8
from search.errors import UserError
from search.escapes import show_control

if TYPE_CHECKING:
    from pipelines.bundle import Prediction
    from pipelines.tasks.kind import Kind

STANDARD_INPUT = Path("-")
commands = typer.Typer()


class _TextsCommand(TyperCommand):
    """Says how a text that looks like an option is given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except TyperException as error:
            if hasattr(error, "option_name"):  # there is no such option: it may be meant as a text
                error.message += (
                    ". A text that begins with '-' comes after '--': predict BUNDLE -- '-5 degrees'"
                )
            raise


@commands.command(rich_help_panel=HERE, cls=_TextsCommand)
def predict(
    bundle: Annotated[Path, typer.Argument(parser=local_path, help="A bundle's folder.")],
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="Texts to label; after '--' those that begin with '-'."),
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option(
            "--input",
            parser=local_path,
            help="csv, tsv, jsonl or parquet with the task's text columns, or txt (a text a line). "
            "- is standard input: a text a line, or JSON lines for pairs.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", parser=local_path, help="Write JSON lines to this new file.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="Where the encoder is now, if not where the bundle says.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Label texts with an exported adapter. Pairs and many texts come by --input or standard input."""
    from pipelines.bundle import AdapterBundle

    if output is not None:
        _check_output(output)
    if not texts and given is None and sys.stdin is not None and not sys.stdin.isatty():
        given = STANDARD_INPUT
    loaded = AdapterBundle.load(bundle, backbone=backbone)
    rows = read_rows(texts or [], given, loaded.config.text_columns)
    predictions = loaded.predict(rows)
    if output is not None:
        lines = prediction_lines(predictions)
        output.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="backslashreplace")
        out.print(f"{len(lines)} predictions in {output}", soft_wrap=True)
    elif as_json:
        lines = prediction_lines(predictions, ascii_only=not writes_utf8())
        write("".join(f"{line}\n" for line in lines))
    else:
        write("".join(f"{_describe(one, loaded.config.rules)}\n" for one in predictions))


def _check_output(output: Path) -> None:
    """Raise UserError where a file cannot be made: before the work, not after it."""
    if output.exists():
        raise UserError(f"{output} exists already. Choose another --output, or remove it first.")
    if not output.parent.is_dir():
        raise UserError(f"{output.parent} is no folder. Make it, or choose another --output.")
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise UserError(f"{output.parent} cannot be written. Choose another --output.")


def _describe(prediction: "Prediction", rules: "Kind") -> str:
    """Label, probability and text, between tabs on one line."""
    texts = (prediction.text,) if isinstance(prediction.text, str) else prediction.text
    score = f"{max(prediction.scores.values()):.3f}" if prediction.scores else ""
    label = prediction.label if isinstance(prediction.label, str) else f"{prediction.label:.4f}"
    return "\t".join(show_control(part, one_line=True) for part in (label, score, rules.shorten(texts)))


def read_rows(
    texts: Sequence[str], given: Path | None, columns: Sequence[str]
) -> list[str | tuple[str, ...]]:
    """The texts or pairs to predict, from the command line or from a file.

    A .txt file is a text a line; others need the bundle's text columns, by name. Standard input is a text a
    line, or for pairs a JSON object a line.

    Raises:
        UserError, InputError: there is nothing to predict, both were given, or the file cannot be used.
    """
    if bool(texts) == (given is not None):
        raise UserError("Give texts or --input FILE: one of the two.")
    if given is None:
        if len(columns) == 2:
            raise UserError(
                f"This bundle takes pairs: give --input FILE with the columns {columns[0]!r} and "
                f"{columns[1]!r}, or JSON lines with them on standard input."
            )
        for number, text in enumerate(texts, start=1):
            if not text.strip():
                raise UserError("One of the texts is empty. Fill it in or leave it out.")
            if has_surrogate(text):  # an argument's raw bytes
                raise UserError(f"Text {number} is not UTF-8. Write it in UTF-8.")
        return list(texts)
    source = "standard input" if given == STANDARD_INPUT else f"--input {given}"
    if given == STANDARD_INPUT:
        lines = _decode_lines(sys.stdin.buffer.read(), source)
        cells: Sequence[Sequence[str | None]] = (lines,) if len(columns) == 1 else _read_json(lines, columns)
    elif given.suffix.lower() == ".txt" and len(columns) == 1:
        if not given.is_file():
            raise UserError(f"{source}: no such file. Correct the path.")
        cells = (_decode_lines(given.read_bytes(), source),)
    else:
        from pipelines.tasks.readers import read_columns  # its pyarrow takes a while

        cells = read_columns(str(given), dict.fromkeys(columns, "--input"), "--input")
    rows: list[str | tuple[str, ...]] = []
    for number, row in enumerate(zip(*cells, strict=True), start=1):
        if any(cell is None or not cell.strip() for cell in row):
            raise UserError(f"{source}: row {number} has an empty text. Fill it in or remove it.")
        if any(has_surrogate(cell or "") for cell in row):
            half = "has half a character (a lone surrogate)"
            raise UserError(f"{source}: row {number} {half}. Correct it or remove it.")
        filled = tuple(str(cell) for cell in row)
        rows.append(filled[0] if len(filled) == 1 else filled)
    if not rows:
        raise UserError(f"{source}: it has no rows. Give at least one text.")
    return rows


def _decode_lines(data: bytes, source: str) -> list[str]:
    """The lines of UTF-8 bytes. Only line ends end a line; a text may hold Unicode's other separators."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: it is not UTF-8 ({error}). Save it as UTF-8.") from error
    return [line.removesuffix("\n") for line in io.StringIO(text, newline=None)]


def _read_json(lines: Sequence[str], columns: Sequence[str]) -> tuple[list[str], ...]:
    """The columns of JSON lines, each line an object with all of them as texts."""
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in columns):
            example = json.dumps(dict.fromkeys(columns, "…"), ensure_ascii=False)
            raise UserError(f"standard input: line {number} is not like {example}. Write a pair a line.")
        rows.append([row[name] for name in columns])
    return tuple([row[index] for row in rows] for index in range(len(columns)))


def prediction_lines(predictions: Sequence["Prediction"], *, ascii_only: bool = False) -> list[str]:
    """One JSON object a prediction: {"text", "label", "scores"}."""
    objects = [{"text": one.text, "label": one.label, "scores": dict(one.scores)} for one in predictions]
    lines = [json.dumps(content, ensure_ascii=ascii_only) for content in objects]
    # JSON escapes control characters but for these, which some terminals obey.
    return [re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", line) for line in lines]
