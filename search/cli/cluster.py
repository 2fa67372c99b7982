"""The commands for jobs on a Ray cluster. Heavy imports happen inside them."""

import sys
from typing import Annotated

import typer
from rich.table import Table

from search.cli.terminal import Address, JobFile, JobStorage, Name, out, print_submission, write
from search.commands import command
from search.escapes import show_control

CLUSTER = "Search on a cluster"
commands = typer.Typer()


@commands.command(rich_help_panel=CLUSTER)
def submit(
    job: JobFile,
    address: Address,
    storage: JobStorage = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be uploaded, and do nothing.")
    ] = False,
) -> None:
    """Check a job here and on a Ray cluster, and start it there.

    The job file and small local data are uploaded, and listed first; of a folder only what a search reads.
    The storage must be one that every node sees.
    """
    from search.cluster import jobs
    from search.cluster.staging import stage

    staged = stage(job, storage=storage)
    out.print(f"{'would upload' if dry_run else 'uploading'} to {address}:")
    for line in staged.describe():
        out.print(f"  {line}", soft_wrap=True)
    if dry_run:
        out.print("Nothing was sent.")
        return
    print_submission(jobs.submit(staged, address=address), staged.job.name, address, staged.job.database)


@commands.command(rich_help_panel=CLUSTER)
def status(name: Name, address: Address) -> None:
    """Show how a submitted job is doing."""
    from search.cluster import jobs

    job = jobs.status(name, address)
    out.print(f"{job.name}: {job.state} ({job.submission_id}), storage {job.storage}", soft_wrap=True)
    if job.message:
        out.print(job.message, soft_wrap=True)
    if job.said:
        out.print(job.said, soft_wrap=True)


@commands.command(rich_help_panel=CLUSTER)
def logs(
    name: Name,
    address: Address,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
) -> None:
    """Print what a submitted job's driver wrote."""
    from search.cluster import jobs

    for piece in jobs.logs(name, address, follow=follow):
        write(show_control(piece, colours=True) if sys.stdout.isatty() else piece)


@commands.command(rich_help_panel=CLUSTER)
def stop(name: Name, address: Address) -> None:
    """Stop a submitted job. Nothing is lost: resume goes on with it."""
    from search.cluster import jobs

    job = jobs.stop(name, address)
    options = ["--address", address, *(["--database", "@FILE"] if job.has_database else [])]
    out.print(f"{job.name}: {job.state}. Go on with: {command('resume', name, *options)}", soft_wrap=True)


@commands.command("list", rich_help_panel=CLUSTER)
def list_jobs(address: Address) -> None:
    """List a cluster's jobs."""
    from search.cluster import jobs

    table = Table(box=None)
    for heading in ("job", "state", "started", "storage"):
        table.add_column(heading)
    for job in jobs.list_jobs(address):
        started = job.started.strftime("%Y-%m-%d %H:%M") if job.started else ""
        table.add_row(job.name, job.state, started, job.storage)
    out.print(table)
