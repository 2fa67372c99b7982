"""The command `ui`: the trials in MLflow's own pages. Heavy imports happen inside it."""

import os
import sys
from typing import Annotated

import typer

from search.cli.terminal import HERE, StorageOption, open_storage, out
from search.errors import UserError
from search.storage import TRACKING_DATABASE

commands = typer.Typer()


@commands.command(rich_help_panel=HERE)
def ui(
    storage: StorageOption = None,
    port: Annotated[int, typer.Option("--port", help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open the MLflow UI on a storage, on 127.0.0.1, until Ctrl-C."""
    place = open_storage(storage)
    if not place.has(TRACKING_DATABASE):
        raise UserError(
            f"{place.root} has no mlflow.db: no job has run there, or tracking.uri names a server for it."
        )
    from search.tracking.client import list_experiments

    out.print(f"MLflow on http://127.0.0.1:{port} in some seconds (Ctrl-C ends it); the trials of")
    for name, number in list_experiments(place):
        out.print(f"  {name}: http://127.0.0.1:{port}/#/experiments/{number}/runs", soft_wrap=True)
    arguments = ["ui", "--backend-store-uri", place.tracking_uri, "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])  # noqa: S606 - our own arguments
