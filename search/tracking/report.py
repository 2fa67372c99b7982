"""A report in MLflow: a run of its own, since a report is about a moment and often about several jobs."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.results import find_job, open_record
from search.storage import Storage
from search.tracking.client import find_experiment, open_client
from search.tracking.runs import find_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient

REPORT_TAG = "adaptune.report"  # its content's SHA-256: the same report is logged once
SHOWN_JOBS = 5  # in the run's name


def log_report(names: Sequence[str], files: Mapping[str, bytes], storage: Storage) -> str:
    """Log a report's files as artifacts to the experiment of the first of its jobs; returns the run's id.

    The same files again are the same run: one that was cut short is completed, nothing is there twice. The
    run has none of the tags by which a job's trials are found.

    Raises:
        Exception: whatever MLflow or the network throws.
    """
    with open_record(storage) as record:
        tracking = find_job(record, names[0], storage)[0].facts.job.get("tracking", {})
    uri = tracking.get("uri") or storage.tracking_uri
    client = open_client(uri, storage)
    experiment = find_experiment(client, tracking.get("experiment") or names[0], storage, uri=uri)
    key = _digest(files)
    found = client.search_runs([experiment], f"tags.`{REPORT_TAG}` = '{key}'", max_results=1)
    if found and found[0].info.status == "FINISHED":
        return str(found[0].info.run_id)
    more = f" and {len(names) - SHOWN_JOBS} more" if len(names) > SHOWN_JOBS else ""
    name = f"report: {', '.join(names[:SHOWN_JOBS])}{more}"
    run = found[0] if found else client.create_run(experiment, tags={REPORT_TAG: key}, run_name=name)
    _log_files(client, run.info.run_id, files)
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def log_pages(
    pages: Mapping[str, Mapping[str, bytes]],
    job: str,
    storage: Storage,
    *,
    uri: str | None,
    experiment: str | None,
) -> None:
    """Log a page's files as artifacts of each study's own run, in place of earlier ones.

    Args:
        pages: by what the keys of a study's runs begin with.

    Raises:
        Exception: whatever MLflow or the network throws.
    """
    where = uri or storage.tracking_uri
    client = open_client(where, storage)
    place = find_experiment(client, experiment or job, storage, uri=where)
    own = where == storage.tracking_uri
    runs = find_runs(client, place, job, storage=storage, keys=pages.keys(), own=own)
    for key, files in pages.items():
        if key in runs:
            _log_files(client, runs[key], files)


def _log_files(client: "MlflowClient", run: str, files: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for file, content in files.items():
            Path(folder, file).write_bytes(content)
        client.log_artifacts(run, folder, "report")


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name} {len(files[name])}\n".encode())
        digest.update(files[name])
    return digest.hexdigest()
