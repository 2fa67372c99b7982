"""The command for reports over jobs. Heavy imports happen inside it."""

from pathlib import Path
from typing import Annotated

import typer

from search.cli.terminal import HERE, DatabaseOption, StorageOption, err, local_path, open_storage, out
from search.errors import first_line

commands = typer.Typer()


@commands.command(rich_help_panel=HERE)
def report(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Jobs' names, of one storage.")],
    storage: StorageOption = None,
    database: DatabaseOption = None,
    to: Annotated[
        Path,
        typer.Option(
            "--out", parser=local_path, help="Folder for the report: a new one, or an earlier report's."
        ),
    ] = Path("report"),
) -> None:
    """Write tables and figures over one or many jobs, as in the paper: HTML, Markdown, CSV, PNG and SVG."""
    from search.report.report import PAGE, read_report, report_files, write_report
    from search.tracking.report import log_report

    place = open_storage(storage, database)
    made = read_report(names, place)
    files = report_files(made)
    write_report(files, to)
    for figure in made.content.figures:
        out.print(f"drawn: {figure.title}", soft_wrap=True)
    for missing in made.content.missing:
        out.print(f"left out: {missing.title}: {missing.reason}; needed: {missing.needed}", soft_wrap=True)
    out.print(f"\nreport: {to / PAGE}", soft_wrap=True)
    try:
        run = log_report(names, files, place)
    except Exception as error:  # whatever MLflow or the network throws: the report is written
        err.print(f"MLflow does not have it: {type(error).__name__}: {first_line(error)}", soft_wrap=True)
    else:
        out.print(f"MLflow run: {run}", soft_wrap=True)
