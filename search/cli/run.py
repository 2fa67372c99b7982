"""The commands `run` and `resume`: a search on this machine. Heavy imports happen inside them."""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from pipelines.errors import PipelineError
from search.cli.terminal import (
    HERE,
    AddressOption,
    ClusterOption,
    DatabaseOption,
    JobFile,
    JobStorage,
    Name,
    StorageOption,
    err,
    open_storage,
    out,
    print_submission,
    short_path,
)
from search.commands import command, predict_command, storage_options
from search.errors import Interrupted, SearchError, StorageError
from search.storage import Storage
from search.wire import close_to_others

commands = typer.Typer()


@commands.command(rich_help_panel=HERE)
def run(job: JobFile, storage: JobStorage = None, cluster: ClusterOption = False) -> None:
    """Search on this machine, or go on with a search.

    A job that was interrupted goes on where it was; of a finished one, the leaderboard is printed.
    """
    _prepare_environment()
    from search.cluster.staging import keep_submission
    from search.job.job import SearchJob

    if cluster:
        close_to_others()
    path = keep_submission(job, storage=storage) if cluster else job
    _run(SearchJob.load(path, storage=storage), source=str(job), cluster=cluster)


@commands.command(rich_help_panel=HERE)
def resume(
    name: Name,
    storage: StorageOption = None,
    database: DatabaseOption = None,
    address: AddressOption = None,
    cluster: ClusterOption = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed trials again, but those that diverged.")
    ] = False,
) -> None:
    """Go on with a job after any interruption.

    Trials that are done are not run again; an unfinished one goes on from its last epoch.
    """
    if address:
        from search.cluster import jobs

        print_submission(
            jobs.resume(name, address=address, storage=storage, database=database, retry_failed=retry_failed),
            name,
            address,
            database,
        )
        return
    _prepare_environment()
    from search.job.job import SearchJob
    from search.results import find_job, open_record

    if cluster:
        close_to_others()
    place = open_storage(storage, database)
    with open_record(place) as record:
        loaded = SearchJob.from_dict(find_job(record, name, place)[0].facts.job)
    # The folder may be mounted elsewhere now, and the database reached by another name.
    moved = loaded.model_copy(update={"storage": place.root, "database": place.database})
    _run(moved, source=name, cluster=cluster, mend=True, retry_failed=retry_failed)


def _run(job: Any, *, source: str, cluster: bool, mend: bool = False, retry_failed: bool = False) -> None:
    from search.local.signals import undisturbed
    from search.progress import ConsoleProgress
    from search.runner import run as run_job
    from search.tables import results_table

    where = storage_options(Storage(job.storage, job.database))
    again = command("resume", job.name, *where)
    out.goes_on = f"the search goes on. {command('results', job.name, *where)} shows what it has"
    try:
        found = run_job(
            job,
            source=source,
            cluster=cluster,
            mend=mend,
            retry_failed=retry_failed,
            progress=ConsoleProgress(out),
        )
    except (Interrupted, KeyboardInterrupt) as error:
        with undisturbed():  # it ends: one more would only take the advice away
            kept = f"nothing is lost. Go on with: {again}" if _is_begun(job) else "nothing was begun"
        raise Interrupted(f"interrupted; {kept}") from error
    except StorageError as error:
        kept = "Nothing that was recorded is lost. Put that right, then:"
        raise StorageError(f"{error}\n{kept} {again}") from error
    except Exception as error:
        if not isinstance(error, SearchError | PipelineError) and _is_begun(job):
            error.add_note(f"What was done so far is kept. Go on with: {again}")
        raise
    out.print()
    out.print(results_table(found))
    for entry in found["tasks"]:
        if entry["state"] == "failed":
            err.print(f"{entry['task']}/{entry['method']}: {entry['reason']}", soft_wrap=True)
    if failed := sum(entry["trials"]["failed"] - len(entry["retries"]) for entry in found["tasks"]):
        err.print(f"trials that failed: {failed}.{_advise_retry(job, failed)}", soft_wrap=True)
    winners = [entry for entry in found["tasks"] if entry["state"] == "finished"]
    if winners:
        _print_next(job, winners, cluster=cluster)
    if found["state"] != "finished":
        raise typer.Exit(1)


def _is_begun(job: Any) -> bool:
    """Whether the record has anything of a job, now or from before."""
    from search.results import find_job, open_record

    storage = Storage(job.storage, job.database)
    try:
        with open_record(storage) as record:
            return bool(find_job(record, job.name, storage))
    except Exception:  # what failed may be the record itself: then nothing is promised
        return False


def _advise_retry(job: Any, failed: int) -> str:
    """How to try failed trials again, where that may help."""
    from search.results import find_job, open_record

    storage = Storage(job.storage, job.database)
    with open_record(storage) as record:
        retryable = sum(len(study.retryable) for study in find_job(record, job.name, storage))
    if not retryable:
        return ""
    which = "them" if retryable == failed else f"{retryable} of them"
    retry = command("resume", job.name, "--retry-failed", *storage_options(storage))
    return f" Try {which} again with: {retry}"


def _print_next(job: Any, winners: Sequence[Mapping[str, Any]], *, cluster: bool) -> None:
    out.print()
    for entry in winners:
        out.print(f"bundle: {entry['best']['bundle']}", soft_wrap=True)
    bundle = winners[0]["best"]["bundle"]
    if not cluster:  # where a cluster's driver works is not where its log is read
        bundle = short_path(bundle)
    out.print("\nnext:")
    if job.tracking.uri is None:
        out.print(f"  {command('ui', *storage_options(Storage(job.storage)))}", soft_wrap=True)
    (task,) = [part.task() for part in job.tasks if part.name == winners[0]["task"]]
    out.print(f"  {predict_command(bundle, task.kind, task.text)}", soft_wrap=True)
    where = storage_options(Storage(job.storage, job.database))
    out.print(f"  {command('export', job.name, '--out', 'adapters', *where)}", soft_wrap=True)


def _prepare_environment() -> None:
    """What Ray reads when it is imported. Nothing that the user has set is changed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # ours is the one view of the search
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
