"""A client of MLflow, and what it is asked for before any run: the database, the experiment."""

import hashlib
import json
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from search.addresses import sqlite_url
from search.database import claim_lock
from search.errors import UserError
from search.job.values import is_name
from search.secrets import HIDDEN, has_secret, hide_secrets
from search.storage import TRACKING_DATABASE, Storage

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SECRETS = ".tracking-secrets.json"


def open_client(uri: str, storage: Storage) -> "MlflowClient":
    """A quiet client that finds out in seconds that a server is away."""
    # Not minutes: whoever asks has retries of its own.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # a line for each trial
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for traced in ("mlflow.store.db.utils", "sqlalchemy.pool"):  # tracebacks of what is raised as well
        logging.getLogger(traced).setLevel(logging.CRITICAL)
    if uri == storage.tracking_uri:
        _make_database(storage)
    return mlflow.MlflowClient(tracking_uri=_find_secret(uri, storage))


def keep_secret(uri: str | None, storage: Storage) -> None:
    """Keep a tracking URI with a password where only its owner can read it: the record, which others may
    read, has it without. An object store keeps none: there a resume needs the job file.
    """
    if uri is None or not storage.is_folder or HIDDEN in uri or not has_secret(uri):
        return
    known = _secrets(storage)
    if known.get(hide_secrets(uri)) != uri:
        storage.write(_SECRETS, json.dumps({**known, hide_secrets(uri): uri}).encode(), private=True)


def _find_secret(uri: str, storage: Storage) -> str:
    if HIDDEN not in uri:
        return uri
    found = _secrets(storage).get(uri)
    if found is None:
        raise UserError(f"the password of {uri} is not known here: run the job's file again, which has it")
    return found


def _secrets(storage: Storage) -> dict[str, str]:
    """Tracking URIs whole, by what the record has of them; none where another user's keeps them."""
    try:
        known: dict[str, str] = json.loads(storage.read(_SECRETS) or b"{}")
    except (PermissionError, ValueError):
        return {}
    return known


def find_experiment(client: "MlflowClient", name: str, storage: Storage, *, uri: str) -> str:
    """The id of an experiment: found, brought back where it was deleted, or made."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    # A server knows where its artifacts go; of a bare database MLflow would put them into ./mlruns.
    has_server = uri.startswith(("http://", "https://", "databricks"))
    location = None if has_server else storage.artifacts_of(_folder(name))
    return str(client.create_experiment(name, artifact_location=location))


def _folder(name: str) -> str:
    """The folder of an experiment's artifacts: its name, or made from it where that could lead elsewhere."""
    if is_name(name):
        return name
    words = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40]
    return f"{words or 'experiment'}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def list_experiments(storage: Storage) -> list[tuple[str, str]]:
    """Names and ids of the experiments in a storage's own MLflow database, the newest first."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=storage.tracking_uri)
    found = client.search_experiments(order_by=["creation_time DESC"], max_results=50)
    return [(one.name, one.experiment_id) for one in found if one.name != "Default"]


def _make_database(storage: Storage) -> None:
    """MLflow's own database in a storage, whole or not at all: of one that was left with half of its tables
    by a process that was killed, MLflow can make nothing any more.
    """
    import mlflow

    if storage.path(TRACKING_DATABASE).exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, TRACKING_DATABASE)
        mlflow.MlflowClient(tracking_uri=sqlite_url(str(made))).search_experiments(max_results=1)
        with claim_lock(storage):
            if not storage.path(TRACKING_DATABASE).exists():  # another process may have been faster
                storage.write(TRACKING_DATABASE, made.read_bytes())
