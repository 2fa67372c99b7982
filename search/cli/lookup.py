"""The commands `tasks`, `spaces` and `schema`: what a job file can name. Heavy imports happen inside them."""

import json

import typer
from rich.table import Table

from search.cli.terminal import out, write

LOOK = "Look things up"
commands = typer.Typer()


@commands.command(rich_help_panel=LOOK)
def tasks() -> None:
    """List the registered tasks."""
    from pipelines.tasks.registry import registered_entry, registered_tasks

    table = Table(box=None)
    for heading in ("task", "kind", "metric", "rows from"):
        table.add_column(heading)
    for task in registered_tasks():
        hub, source = registered_entry(task.name).hub, "data_dir (adaptune data prepare)"
        if hub:
            source = f"data_dir, else {hub.path} {hub.config or ''}"
        table.add_row(task.name, task.kind, task.metric, source)
    out.print(table)


@commands.command(rich_help_panel=LOOK)
def spaces() -> None:
    """List the preset search spaces."""
    from search.tables import format_values
    from spaces import presets

    for name, preset in presets().items():
        out.print(f"{name} ({preset.method}): {preset.description}")
        for parameter, values in preset.space.to_dict().items():
            out.print(f"  {parameter}: {format_values(values)}")


@commands.command(rich_help_panel=LOOK)
def schema() -> None:
    """Print the JSON schema of the job file, for editors."""
    from search.job.job import job_schema

    write(json.dumps(job_schema(), indent=2) + "\n")
