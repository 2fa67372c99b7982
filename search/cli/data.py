"""The commands about data: public files prepared, predictions for the GLUE server. Imports are inside."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from search.cli.terminal import DatabaseOption, StorageOption, local_path, open_storage, out
from search.commands import storage_options

DATA = "Data"
commands = typer.Typer()
data_app = typer.Typer(no_args_is_help=True, help="Get the data of registered tasks ready.")
commands.add_typer(data_app, name="data", rich_help_panel=DATA)


@data_app.callback()
def _data() -> None:
    """Typer runs an app of one command without its name, unless it has a callback."""


@data_app.command()
def prepare(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="A registered task: adaptune tasks lists them.")
    ],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", parser=local_path, help="Its public file or folder; docs/tasks.md says which."
        ),
    ],
    to: Annotated[
        Path, typer.Option("--out", parser=local_path, help="The data_dir: OUT/<task>/ is made.")
    ] = Path("data"),
) -> None:
    """Turn a task's public file into train, validation and test with the paper's sizes.

    Every row that is left out is reported, and listed in OUT/<task>/dropped.csv.
    """
    from pipelines.tasks.prepare import DROPPED
    from pipelines.tasks.prepare import prepare as run

    done = run(task, file, to)
    sizes = ", ".join(f"{rows:,} {split}" for split, rows in done.sizes.items())
    classes = f", {done.classes} classes" if done.classes else ""
    out.print(f"{done.folder}: {sizes}{classes}", soft_wrap=True)
    if done.is_the_papers:
        out.print("These are the paper's sizes.")
    else:
        paper = ", ".join(f"{rows:,}" for rows in done.paper if rows)
        counted = f" and {done.paper_classes} classes" if done.paper_classes else ""
        out.print(f"The paper has {paper}{counted}: this file differs from the paper's.")
    for reason, rows in done.dropped.items():
        first = ", ".join(map(str, rows[:20])) + (", ..." if len(rows) > 20 else "")
        out.print(f"dropped {len(rows):,}: {reason} (row{'s'[: len(rows) - 1]} {first})", soft_wrap=True)
    if done.dropped:
        out.print(f"All of them: {done.folder / DROPPED}", soft_wrap=True)
    out.print(f"Use it with `data_dir: {to}` in the job file.", soft_wrap=True)


@commands.command("glue-submission", rich_help_panel=DATA)
def glue_submission(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Jobs that together have all nine GLUE tasks.")
    ],
    to: Annotated[Path, typer.Option("--out", parser=local_path, help="The zip to write.")],
    storage: StorageOption = None,
    database: DatabaseOption = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            parser=local_path,
            help="Has <task>/unlabelled.parquet, for test sets not from the Hub.",
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="Where the encoder is now, if not where the bundles say.")
    ] = None,
) -> None:
    """Predict GLUE's test sets with each task's best adapter, as files for the GLUE server."""
    from search.glue_submission import select_entries, write_submission
    from search.results import export_bundles, read_results

    place = open_storage(storage, database)
    entries = [entry for name in names for entry in read_results(name, place)["tasks"]]
    jobs = ", ".join(names)
    found = {"job": jobs, "state": "finished", "tasks": select_entries(entries, jobs, storage_options(place))}
    with tempfile.TemporaryDirectory() as folder:
        bundles = export_bundles(found, Path(folder), fetch=place.fetch)
        rows, left_out = write_submission(bundles, to, data_dir=data_dir, backbone=backbone)
    for file, count in rows.items():
        out.print(f"{file}: {count:,} predictions")
    for reason in left_out:
        out.print(f"left out {reason}", soft_wrap=True)
    out.print(f"{to}: send it in at https://gluebenchmark.com", soft_wrap=True)
