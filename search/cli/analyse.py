"""The commands `adaptune analyse`: which adapters, sizes and rates matter. Imports are inside."""

from pathlib import Path
from typing import Annotated

import typer

from search.cli.terminal import HERE, DatabaseOption, StorageOption, local_path, open_storage, out

commands = typer.Typer()
analyses = typer.Typer(
    no_args_is_help=True, help="The paper's analyses: of a bundle's layers, or of the trials of jobs."
)
commands.add_typer(analyses, name="analyse", rich_help_panel=HERE)
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Jobs' names, of one storage.")]
OutOption = Annotated[
    Path,
    typer.Option(
        "--out", parser=local_path, help="Folder for the files; those of the same names are replaced."
    ),
]
ANALYSES = Path("analyses")


@analyses.command()
def ablation(
    bundle: Annotated[
        Path, typer.Argument(parser=local_path, help="A bundle's folder, of the method adapter.")
    ],
    given: Annotated[
        Path | None,
        typer.Option(
            "--input",
            parser=local_path,
            help="csv, tsv, jsonl or parquet with the task's text columns and its labels.",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", parser=local_path, help="Or a folder with <task>/validation.parquet."),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="The label's column, if not named as in the job.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many rows.")] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="Where the encoder is now, if not where the bundle says.")
    ] = None,
    to: OutOption = ANALYSES,
) -> None:
    """Remove the adapters of every span of layers, and draw what each removal costs (Figure 6)."""
    from search.report.ablation import ablation_files, analyse_layers, describe_layers
    from search.report.sweeps import write_files

    found = analyse_layers(
        bundle, source=given, data_dir=data_dir, label=label, limit=limit, backbone=backbone
    )
    write_files(ablation_files(found), to)
    for line in describe_layers(found):
        out.print(line, soft_wrap=True)
    out.print(f"\nheat map: {to / 'ablation.png'} (and svg, csv)", soft_wrap=True)


@analyses.command()
def init(
    names: Names, storage: StorageOption = None, database: DatabaseOption = None, to: OutOption = ANALYSES
) -> None:
    """Draw score against the deviation of the adapters' first weights (Figure 6, right)."""
    from search.report.sweeps import drawn_files, init_figure, read_tasks, write_files

    figure = init_figure(read_tasks(names, open_storage(storage, database)))
    write_files(drawn_files(figure), to)
    out.print(f"{figure.title}: {to / figure.key}.png (and svg, csv)", soft_wrap=True)


@analyses.command("learning-rate")
def learning_rate(
    names: Names, storage: StorageOption = None, database: DatabaseOption = None, to: OutOption = ANALYSES
) -> None:
    """Draw the best score at each learning rate (Figure 7)."""
    from search.report.sweeps import drawn_files, learning_rate_figure, read_tasks, write_files

    figure = learning_rate_figure(read_tasks(names, open_storage(storage, database)))
    write_files(drawn_files(figure), to)
    out.print(f"{figure.title}: {to / figure.key}.png (and svg, csv)", soft_wrap=True)


@analyses.command()
def size(
    names: Names, storage: StorageOption = None, database: DatabaseOption = None, to: OutOption = ANALYSES
) -> None:
    """Tabulate the best score at each adapter size, and the paper's beside it (§3.6)."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from search.report.sweeps import read_tasks, size_table, table_files, write_files

    made = size_table(read_tasks(names, open_storage(storage, database)))
    write_files(table_files(made), to)
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in made.heads:
        shown.add_column(head, justify="right")
    for row in made.rows:
        shown.add_row(*row)
    out.print(shown)
    for note in made.notes:
        out.print(note, soft_wrap=True)
    out.print(f"\ntable: {to / made.key}.csv (and md)", soft_wrap=True)
