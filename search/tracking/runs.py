"""A job's runs in MLflow: found by their tags, and rid of those that nobody will end.

Two drivers of one job, as after a fault that nothing could prevent, may each have made a run of one trial;
and a job whose record was lost and that was begun anew has runs that no record knows. Both would stand as
running for ever.
"""

import socket
from collections.abc import Collection
from typing import TYPE_CHECKING

from search.storage import Storage

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

JOB_TAG, STUDY_TAG, TRIAL_TAG = "adaptune.job", "adaptune.study", "adaptune.trial"
KEY_TAG = "adaptune.key"  # by which a run is found: of one search, not of others with the same names
STORAGE_TAG = "adaptune.storage"  # whose job it is, where several storages share a server
UNDER_WAY = ("RUNNING", "SCHEDULED")


def storage_name(storage: Storage) -> str:
    """What tells a storage from others on a server: its URI, or its path on this machine."""
    return f"{socket.gethostname()}:{storage.root}" if storage.is_folder else storage.root


def find_runs(
    client: "MlflowClient", experiment: str, job: str, *, storage: Storage, keys: Collection[str], own: bool
) -> dict[str, str]:
    """The job's runs that MLflow has, by their keys; ends those that are under way and nobody's.

    Args:
        keys: what the keys of the job's studies begin with.
        own: whether the database is this storage's own, so that all of the job's runs there are its.
    """
    known: dict[str, str] = {}
    for run in sorted(_runs_of(client, experiment, job), key=lambda run: run.info.start_time):
        key = run.data.tags.get(KEY_TAG, "")
        if key.partition("/")[0] not in keys:
            ours = own or run.data.tags.get(STORAGE_TAG) == storage_name(storage)
            if ours and run.info.status in UNDER_WAY:
                _end(client, run, "its record is gone: the job was begun anew")
        elif key in known:
            if run.info.status in UNDER_WAY:
                _end(client, run, f"made twice: run {known[key]} is the one that goes on")
        else:
            known[key] = run.info.run_id
    return known


def _runs_of(client: "MlflowClient", experiment: str, job: str) -> "list[Run]":
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`{JOB_TAG}` = '{job}'", max_results=1000, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def _end(client: "MlflowClient", run: "Run", reason: str) -> None:
    client.set_tag(run.info.run_id, "reason", reason)
    client.set_terminated(run.info.run_id, status="KILLED")
