"""Jobs on a Ray cluster: submit, resume, status, logs, stop. The search runs there as it does here."""

import asyncio
import json
import logging
import secrets
import shlex
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from search.cluster.remote import answers_anyone, call, contact, wait
from search.cluster.staging import GIVE_SHARED, StagedJob, is_shared
from search.commands import command
from search.errors import JobError, Problem, UserError
from search.storage import check_storage
from search.wire import DATABASE_FILE, JOB_FILE, REQUEST_FILE, version

COMMAND = ("adaptune",)
STOP_TIMEOUT_SECONDS = 120
OPEN_CLUSTER = (
    "This cluster answers without a token: whoever reaches %s can run code on it. Start Ray with "
    "RAY_AUTH_MODE=token on every node (docs/cluster.md: Tokens and tunnels)."
)
_STATES = {
    JobStatus.PENDING: "pending",
    JobStatus.RUNNING: "running",
    JobStatus.STOPPED: "interrupted",
    JobStatus.SUCCEEDED: "finished",
    JobStatus.FAILED: "failed",
}


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterJob:
    """A job's submission that runs, else its newest, as the cluster knows it.

    Attributes:
        state: pending, running, interrupted (stopped), finished or failed.
        message: what Ray says of it; for a failed one the last lines of its log.
        has_database: whether its studies lie in a database of its own, so that commands have to name it.
        said: the last line that its driver wrote, while it runs; empty where that was not asked for.
    """

    name: str
    submission_id: str
    state: str
    message: str
    storage: str
    started: datetime | None
    ended: datetime | None
    has_database: bool = False
    said: str = ""

    @property
    def is_live(self) -> bool:
        return self.state in ("pending", "running")


def submit(staged: StagedJob, *, address: str) -> str:
    """Check a staged job on the cluster, and start it there; its submission id.

    Raises:
        JobError: what the cluster's nodes see of it; all problems together. Nothing has been submitted.
        UserError: the cluster cannot be reached, or the job is running there.
    """
    with contact(address) as client, tempfile.TemporaryDirectory(prefix="adaptune-") as folder:
        _refuse_live(client, staged.job.name, address)
        problems = check_cluster(
            client,
            staged.storage,
            locations=staged.locations,
            database=staged.job.database,
            tracking=staged.job.tracking.uri,
        )
        if problems:
            raise JobError(f"{staged.source} on {address}", problems)
        package = Path(folder, "job.zip")
        staged.write(package)
        arguments = ["run", JOB_FILE, "--cluster"]
        name, database = staged.job.name, staged.job.database
        return _start(client, name, staged.storage, arguments, package, address=address, database=database)


def resume(
    name: str,
    *,
    address: str,
    storage: str | None = None,
    database: str | None = None,
    retry_failed: bool = False,
) -> str:
    """Go on with a job on the cluster; its new submission id.

    Args:
        storage: where its record lies; needed if the cluster itself was started anew and forgot the job.
        database: its studies' SQLAlchemy URI, where the job file gave one.
        retry_failed: try the configurations again whose trials failed.

    Raises:
        JobError: as `submit`.
        UserError: the cluster cannot be reached or does not know the job, it is running, or the storage is
            relative or none.
    """
    if storage:
        check_storage(storage)
        if not is_shared(storage):
            raise UserError(f"storage = {storage!r} is relative. {GIVE_SHARED}")
    with contact(address) as client:
        _refuse_live(client, name, address)
        storage = storage or _find(client, name, address).storage
        if problems := check_cluster(client, storage, database=database):
            raise JobError(f"{name} on {address}", problems)
        arguments = ["resume", name, "--storage", storage, "--cluster"]
        if retry_failed:
            arguments.append("--retry-failed")
        if database is None:
            return _start(client, name, storage, arguments, address=address)
        with tempfile.TemporaryDirectory(prefix="adaptune-") as folder:
            package = Path(folder, "job.zip")
            with zipfile.ZipFile(package, "w") as archive:
                archive.writestr(DATABASE_FILE, database)  # not an argument, which everybody may list
            arguments += ["--database", f"@{DATABASE_FILE}"]
            return _start(client, name, storage, arguments, package, address=address, database=database)


def check_cluster(
    client: JobSubmissionClient,
    storage: str,
    *,
    locations: Sequence[tuple[str, str]] = (),
    database: str | None = None,
    tracking: str | None = None,
) -> list[Problem]:
    """Let the cluster's nodes try what a job will need: see `search.probe`. Warns where others could run
    code as the job's owner.
    """
    if answers_anyone(client.get_address()):
        log.warning(OPEN_CLUSTER, client.get_address())
    request = {
        "version": version(),
        "storage": storage,
        "locations": locations,
        "database": database,
        "tracking.uri": tracking,
        "token": secrets.token_hex(8),
    }
    report = json.loads(call(client, "probe", files={REQUEST_FILE: json.dumps(request)}))
    for warning in report.get("warnings", []):
        log.warning("%s", warning)
    return [Problem(*finding) for finding in report["findings"]]


def list_jobs(address: str) -> list[ClusterJob]:
    """The jobs of this cluster, by name, each by the submission that runs, else by its newest."""
    with contact(address) as client:
        return _jobs(client)


def status(name: str, address: str) -> ClusterJob:
    """One job, with what it said last; raises UserError if the cluster does not know it."""
    with contact(address) as client:
        job = _find(client, name, address)
        if not job.is_live:
            return job
        lines = client.get_job_logs(job.submission_id).strip().splitlines()
        return replace(job, said=lines[-1] if lines else "")


def logs(name: str, address: str, *, follow: bool = False) -> Iterator[str]:
    """What the job's driver wrote so far, in pieces; with `follow`, until it ends.

    Raises:
        UserError: the cluster does not know the job, or the connection breaks.
    """
    with contact(address) as client:
        job = _find(client, name, address).submission_id
        seen = 0
        if follow:
            for piece in _tail(client, job):
                seen += len(piece)
                yield piece
        yield client.get_job_logs(job)[seen:]  # a tail may miss the last lines


def stop(name: str, address: str) -> ClusterJob:
    """Stop a job and wait until it has ended. Its driver gets SIGTERM and a few seconds; `resume` goes on.

    Raises:
        UserError: the cluster does not know the job, or it is not running.
        RemoteError: it has not ended in time.
    """
    with contact(address) as client:
        job = _find(client, name, address)
        if not job.is_live:
            raise UserError(f"{name!r} is not running on {address}: it is {job.state}.")
        client.stop_job(job.submission_id)
        wait(client, job.submission_id, timeout_seconds=STOP_TIMEOUT_SECONDS)
        return _find(client, name, address)


def _start(
    client: JobSubmissionClient,
    name: str,
    storage: str,
    arguments: list[str],
    package: Path | None = None,
    *,
    address: str,
    database: str | None = None,
) -> str:
    """Submit under the next number of this job. Of two that do so at once Ray takes one: a submission's id
    is there once, and whoever has seen the other's is refused before.
    """
    submission = f"adaptune-{name}-{_next_number(client, name):04d}"
    try:
        return client.submit_job(
            entrypoint=shlex.join([*COMMAND, *arguments]),
            submission_id=submission,
            metadata={"adaptune_job": name, "storage": storage, **({"database": "own"} if database else {})},
            runtime_env={"working_dir": str(package)} if package else None,
        )
    except RuntimeError as error:
        if "already exists" not in str(error):
            raise
        raise _is_live(
            name, f"was just submitted by somebody else to {address} ({submission})", address
        ) from error


def _next_number(client: JobSubmissionClient, name: str) -> int:
    """One more than any submission of a job has; those of earlier versions end in letters and digits."""
    ends = [
        (job.submission_id or "").rpartition("-")[2]
        for job in client.list_jobs()
        if (job.metadata or {}).get("adaptune_job") == name
    ]
    return 1 + max((int(end) for end in ends if end.isdecimal()), default=0)


def _refuse_live(client: JobSubmissionClient, name: str, address: str) -> None:
    for job in _jobs(client):
        if job.name == name and job.is_live:
            raise _is_live(name, f"is already {job.state} on {address} ({job.submission_id})", address)


def _is_live(name: str, how: str, address: str) -> UserError:
    follow, end = (command(verb, name, "--address", address) for verb in ("logs", "stop"))
    return UserError(f"{name!r} {how}. Follow it with `{follow}`, or end it with `{end}`.")


def _find(client: JobSubmissionClient, name: str, address: str) -> ClusterJob:
    jobs = {job.name: job for job in _jobs(client)}
    if name not in jobs:
        known = ", ".join(sorted(jobs)) or "none"
        raise UserError(f"{address} knows no job {name!r}. Its jobs: {known}.")
    return jobs[name]


def _jobs(client: JobSubmissionClient) -> list[ClusterJob]:
    submissions = [job for job in client.list_jobs() if "adaptune_job" in (job.metadata or {})]
    newest: dict[str, ClusterJob] = {}
    for details in sorted(submissions, key=lambda job: job.start_time or 0):
        job = _read(details)
        if job.is_live or job.name not in newest or not newest[job.name].is_live:
            newest[job.name] = job
    return [newest[name] for name in sorted(newest)]


def _read(details: JobDetails) -> ClusterJob:
    metadata = details.metadata or {}
    return ClusterJob(
        name=metadata["adaptune_job"],
        submission_id=details.submission_id or "",
        state=_STATES[JobStatus(details.status)],
        message=details.message or "",
        storage=metadata.get("storage", ""),
        started=_read_time(details.start_time),
        ended=_read_time(details.end_time),
        has_database="database" in metadata,
    )


def _read_time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def _tail(client: JobSubmissionClient, job: str) -> Iterator[str]:
    """Ray's asynchronous tail as a plain iterator."""
    with asyncio.Runner() as runner:
        pieces = client.tail_job_logs(job).__aiter__()

        async def take() -> str | None:
            return await anext(pieces, None)

        while (piece := runner.run(take())) is not None:
            yield piece
