"""The commands `results` and `export`: what a job came to. Heavy imports happen inside them."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from search.cli.terminal import (
    HERE,
    AddressOption,
    DatabaseOption,
    JsonOption,
    Name,
    StorageOption,
    TaskOption,
    local_path,
    open_storage,
    out,
    write,
)
from search.commands import command, database_options, storage_options
from search.storage import check_storage

commands = typer.Typer()


@commands.command(rich_help_panel=HERE)
def results(
    name: Name,
    task: TaskOption = None,
    storage: StorageOption = None,
    database: DatabaseOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a job's leaderboard: scores, sizes and configurations of the best adapters."""
    from search.results import select_task
    from search.tables import results_table

    found = select_task(_fetch_results(name, storage, database, address), task)
    if as_json:
        write(json.dumps(found, indent=2) + "\n")
    else:
        out.print(results_table(found))
        if found["state"] == "interrupted":
            where = ["--address", address, *database_options(database)] if address else None
            options = where or storage_options(open_storage(storage, database))
            out.print(f"Go on with: {command('resume', name, *options)}", soft_wrap=True, markup=False)


@commands.command(rich_help_panel=HERE)
def export(
    name: Name,
    to: Annotated[
        Path, typer.Option("--out", parser=local_path, help="Folder for the bundles: OUT/<task>/.")
    ],
    task: TaskOption = None,
    storage: StorageOption = None,
    database: DatabaseOption = None,
    address: AddressOption = None,
) -> None:
    """Copy the best bundle of each task to a folder."""
    from search.results import export_bundles, read_results

    if address:
        from search.cluster.remote import fetch_folder

        folders = export_bundles(
            _fetch_results(name, storage, database, address),
            to,
            task=task,
            fetch=lambda bundle, folder: fetch_folder(bundle, folder, address=address),
            options=["--address", address, *database_options(database)],
        )
    else:
        place = open_storage(storage, database)
        found, options = read_results(name, place), storage_options(place)
        folders = export_bundles(found, to, task=task, fetch=place.fetch, options=options)
    for one, folder in folders.items():
        out.print(f"{one}: {folder}", soft_wrap=True)


def _fetch_results(
    name: str, storage: str | None, database: str | None, address: str | None
) -> dict[str, Any]:
    from search.results import read_results

    if address is None:
        return read_results(name, open_storage(storage, database))
    from search.cluster.jobs import status as cluster_status
    from search.cluster.remote import parse_results, run_remote
    from search.wire import DATABASE_FILE

    if storage:
        check_storage(storage)
    place = storage or cluster_status(name, address).storage
    arguments = ["results", name, "--json", "--storage", place]
    files = {}
    if database is not None:
        arguments += ["--database", f"@{DATABASE_FILE}"]
        files[DATABASE_FILE] = database
    return parse_results(run_remote(arguments, address=address, files=files))
