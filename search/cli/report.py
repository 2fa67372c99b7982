"""The command for reports over jobs. Heavy imports happen inside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.terminal import HERE, DatabaseOption, StorageOption, err, local_path, open_storage, out
from search.errors import first_line

if TYPE_CHECKING:
    from search.storage import Storage

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
    paper: Annotated[
        bool, typer.Option("--paper", help="Of one job too the paper's tables and figures, as of several.")
    ] = False,
) -> None:
    """Write the report on a job: who won and how surely, what mattered, its mistakes, what to try next.

    Over several jobs, or with --paper, it has tables and figures as in the paper: HTML, Markdown, CSV, PNG
    and SVG.
    """
    from search.report.report import PAGE, write_report
    from search.tracking.report import log_report

    place = open_storage(storage, database)
    names = list(dict.fromkeys(names))
    files = _paper_files(names, place) if paper or len(names) > 1 else _job_files(names[0], place)
    write_report(files, to)
    out.print(f"report: {to / PAGE}", soft_wrap=True)
    try:
        run = log_report(names, files, place)
    except Exception as error:  # whatever MLflow or the network throws: the report is written
        err.print(f"MLflow does not have it: {type(error).__name__}: {first_line(error)}", soft_wrap=True)
    else:
        out.print(f"MLflow run: {run}", soft_wrap=True)


def _job_files(name: str, place: "Storage") -> dict[str, bytes]:
    from search.report.job.page import job_files
    from search.results import find_job, open_record

    with open_record(place) as record:
        return job_files(find_job(record, name, place), place)


def _paper_files(names: Sequence[str], place: "Storage") -> dict[str, bytes]:
    from search.report.report import read_report, report_files

    made = read_report(names, place)
    files = report_files(made)
    for figure in made.content.figures:
        out.print(f"drawn: {figure.title}", soft_wrap=True)
    for missing in made.content.missing:
        out.print(f"left out: {missing.title}: {missing.reason}; needed: {missing.needed}", soft_wrap=True)
    out.print()
    return files
