"""The command `adaptune`. Heavy imports happen inside the commands, so that --help is quick."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from typer.exceptions import TyperException

from search.cli.analyse import analyse_app
from search.cli.cluster import cluster_commands
from search.cli.data import data_commands
from search.cli.report import report_commands
from search.cli.terminal import (
    AddressOption,
    ClusterOption,
    DatabaseOption,
    JobFile,
    JobStorage,
    JsonOption,
    Name,
    StorageOption,
    TaskOption,
    command,
    default_storage,
    err,
    flags,
    open_storage,
    out,
    print_submission,
    short_path,
)
from search.errors import UserError

app = typer.Typer(
    name="adaptune",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="AutoML for adapters: one frozen text encoder, many tasks, the best small adapter for each.\n\n"
    "Start with [bold]adaptune check job.yaml[/bold], then [bold]adaptune run job.yaml[/bold].",
)
HERE, LOOK = "Search here", "Look things up"


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    os.environ["ADAPTUNE_DEBUG"] = "1" if debug else os.environ.get("ADAPTUNE_DEBUG", "")


@app.command(rich_help_panel=HERE)
def check(job: JobFile, storage: JobStorage = None) -> None:
    """Show everything wrong with a job file, or what it comes to.

    Reads the data and loads the encoder, starts nothing. Exit code 2 if the job cannot run.
    """
    from search.cli.plan import print_plan
    from search.decisions.experience import Experience, gather
    from search.job.job import SearchJob
    from search.plan import make_plan, name_collisions
    from search.results import has_record
    from search.storage import Storage
    from search.study import Record

    collisions = name_collisions()
    if collisions:
        raise UserError("\n".join(collisions))
    loaded = SearchJob.load(job, storage=storage)
    plan = make_plan(loaded, source=str(job))
    place = Storage(loaded.storage, loaded.database)
    place.prepare()
    experience: dict[str, Experience] = {}
    if has_record(place):
        with Record(place) as record:
            fingerprint = plan.backbone.fingerprint
            experience = {
                method: gather(
                    record, loaded, method, fingerprint=fingerprint, vectors=plan.vector_fingerprints
                )
                for method in loaded.methods
            }
    print_plan(plan, out, experience=experience)
    out.print(f"\nStart it with: {command('run', str(job), *flags('--storage', storage))}")


@app.command(rich_help_panel=HERE)
def run(job: JobFile, storage: JobStorage = None, cluster: ClusterOption = False) -> None:
    """Search on this machine, or go on with a search.

    A job that was interrupted goes on where it was; of a finished one, the leaderboard is printed.
    """
    _prepare_environment()
    from search.cluster.staging import keep_submission
    from search.job.job import SearchJob

    path = keep_submission(job, storage=storage) if cluster else job
    _run(SearchJob.load(path, storage=storage), source=str(job), cluster=cluster)


@app.command(rich_help_panel=HERE)
def resume(
    name: Name,
    storage: StorageOption = None,
    database: DatabaseOption = None,
    address: AddressOption = None,
    cluster: ClusterOption = False,
) -> None:
    """Go on with a job after any interruption.

    Trials that are done are not run again; an unfinished one goes on from its last epoch.
    """
    if address:
        from search.cluster import jobs

        print_submission(
            jobs.resume(name, address=address, storage=storage, database=database), name, address
        )
        return
    _prepare_environment()
    from search.job.job import SearchJob
    from search.results import find_job, open_record

    place = open_storage(storage, database)
    with open_record(place) as record:
        loaded = SearchJob.from_dict(find_job(record, name, place)[0].attributes["job"])
    # The folder may be mounted elsewhere now, and the database reached by another name.
    moved = loaded.model_copy(update={"storage": place.root, "database": place.database})
    _run(moved, source=name, cluster=cluster)


@app.command(rich_help_panel=HERE)
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

    found = select_task(_results(name, storage, database, address), task)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        out.print(results_table(found))


@app.command(rich_help_panel=HERE)
def export(
    name: Name,
    to: Annotated[Path, typer.Option("--out", help="Folder for the bundles: OUT/<task>/.")],
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
            _results(name, storage, database, address),
            to,
            task=task,
            fetch=lambda bundle, folder: fetch_folder(bundle, folder, address=address),
        )
    else:
        place = open_storage(storage, database)
        folders = export_bundles(read_results(name, place), to, task=task, fetch=place.fetch)
    for one, folder in folders.items():
        out.print(f"{one}: {folder}", soft_wrap=True)


@app.command(rich_help_panel=HERE)
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
    from search.cli.predictions import prediction_lines, read_rows

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
        text = one.text if isinstance(one.text, str) else " | ".join(one.text)
        if loaded.config.kind == "span":
            text = one.text[0]  # the question; a context is long
        score = f"{max(one.scores.values()):.3f}" if one.scores else ""
        label = one.label if isinstance(one.label, str) else f"{one.label:.4f}"
        print(f"{label}\t{score}\t{text}")


@app.command(rich_help_panel=HERE)
def ui(
    storage: StorageOption = None,
    port: Annotated[int, typer.Option("--port", help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open the MLflow UI on a storage, on 127.0.0.1, until Ctrl-C."""
    place = open_storage(storage)
    if not place.path("mlflow.db").is_file():
        raise UserError(
            f"{place.root} has no mlflow.db: no job has run there, or tracking.uri names a server for it."
        )
    from search.tracking.client import list_experiments

    out.print(f"MLflow on http://127.0.0.1:{port} in some seconds (Ctrl-C ends it); the trials of")
    for name, number in list_experiments(place):
        out.print(f"  {name}: http://127.0.0.1:{port}/#/experiments/{number}/runs", soft_wrap=True)
    arguments = ["ui", "--backend-store-uri", place.tracking_uri, "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])  # noqa: S606 - our own arguments


app.add_typer(report_commands)
app.add_typer(analyse_app, name="analyse", rich_help_panel=HERE)
app.add_typer(cluster_commands)
app.add_typer(data_commands)


@app.command(rich_help_panel=LOOK)
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


@app.command(rich_help_panel=LOOK)
def spaces() -> None:
    """List the preset search spaces."""
    from search.tables import format_values
    from spaces import presets

    for name, preset in presets().items():
        out.print(f"{name} ({preset.method}): {preset.description}")
        for parameter, values in preset.space.to_dict().items():
            out.print(f"  {parameter}: {format_values(values)}")


@app.command(rich_help_panel=LOOK)
def schema() -> None:
    """Print the JSON schema of the job file, for editors."""
    from search.job.job import job_schema

    print(json.dumps(job_schema(), indent=2))


def _run(job: Any, *, source: str, cluster: bool) -> None:
    from search.errors import StorageError
    from search.progress import ConsoleProgress
    from search.runner import Interrupted
    from search.runner import run as run_job
    from search.tables import results_table

    again = command("resume", job.name, *flags("--storage", job.storage, default=default_storage()))
    try:
        found = run_job(job, source=source, cluster=cluster, progress=ConsoleProgress(out))
    except (Interrupted, KeyboardInterrupt) as error:
        raise Interrupted(f"interrupted; nothing is lost. Go on with: {again}") from error
    except StorageError as error:
        kept = "Nothing that was recorded is lost. Put that right, then:"
        raise StorageError(f"{error}\n{kept} {again}") from error
    out.print()
    out.print(results_table(found))
    bundles = [entry["best"]["bundle"] for entry in found["tasks"] if entry["state"] == "finished"]
    for entry in found["tasks"]:
        if entry["state"] == "failed":
            err.print(f"{entry['task']}/{entry['method']}: {entry['reason']}", soft_wrap=True)
    if bundles:
        # Where a cluster's driver works is not where its log is read.
        _print_next(job, bundles, first=bundles[0] if cluster else short_path(bundles[0]))
    if found["state"] != "finished":
        raise typer.Exit(1)


def _print_next(job: Any, bundles: list[str], *, first: str) -> None:
    out.print()
    for bundle in bundles:
        out.print(f"bundle: {bundle}", soft_wrap=True)
    storage = flags("--storage", job.storage, default=default_storage())
    out.print("\nnext:")
    if job.tracking.uri is None:
        out.print(f"  {command('ui', *storage)}", soft_wrap=True)
    out.print(f"  {command('predict', first, 'some text')}", soft_wrap=True)
    out.print(f"  {command('export', job.name, '--out', 'adapters', *storage)}", soft_wrap=True)


def _results(name: str, storage: str | None, database: str | None, address: str | None) -> dict[str, Any]:
    from search.results import read_results

    if address is None:
        return read_results(name, open_storage(storage, database))
    from search.cluster.jobs import status as cluster_status
    from search.cluster.remote import parse_results, run_remote

    place = storage or cluster_status(name, address).storage
    arguments = ["results", name, "--json", "--storage", place, *flags("--database", database)]
    return parse_results(run_remote(arguments, address=address))


def _prepare_environment() -> None:
    """What Ray reads when it is imported. Nothing that the user has set is changed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # ours is the one view of the search
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main() -> None:
    """Run the command. Exit codes: 0 done; 1 the work failed; 2 the input was wrong; 130 interrupted."""
    try:
        code = app(standalone_mode=False)
        if code == 130:  # typer's own answer to Ctrl-C, which says nothing
            _fail("interrupted", 130)
    except TyperException as error:  # the command line itself is wrong
        problem: Any = error  # its kinds know how to show themselves
        problem.show()
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        code = _fail("interrupted", 130)
    except Exception as error:
        if os.environ.get("ADAPTUNE_DEBUG"):
            raise
        code = _fail(*_explain(error))
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> tuple[str, int]:
    """What to say about an error, and the exit code."""
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"UserError", "InputError", "InputErrors", "BundleError"}:
        return str(error), 2
    if "Interrupted" in names:
        return str(error), 130
    if names & {"RemoteError", "StorageError"}:
        return str(error), 1
    again = "`adaptune --debug …` shows where. What was done so far is kept; `adaptune resume NAME` goes on."
    return f"{type(error).__name__}: {error}\n{again}", 1


def _fail(message: str, code: int) -> int:
    if code == 130:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends: one more would only change the exit code
    err.print(message, soft_wrap=True)
    return code
