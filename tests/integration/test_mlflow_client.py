"""MLflow's own database in a storage: whole, or not there."""

import sqlite3
from contextlib import closing

import mlflow
import pytest

from search.storage import Storage
from search.tracking.client import find_experiment, list_experiments, open_client

pytestmark = pytest.mark.integration


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path / "runs"))


def test_whoever_is_killed_while_making_the_database_leaves_nothing_that_the_next_one_cannot_open(
    storage, monkeypatch
):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(mlflow.MlflowClient, "search_experiments", killed)
        with pytest.raises(KeyboardInterrupt):
            open_client(storage.tracking_uri, storage)
    assert not storage.path("mlflow.db").exists()
    client = open_client(storage.tracking_uri, storage)
    made = client.create_experiment("job", artifact_location=f"{storage.artifacts}/job")
    assert open_client(storage.tracking_uri, storage).get_experiment(made).name == "job"


def test_runs_and_artifacts_lie_in_the_storage_whatever_its_path(tmp_path, monkeypatch):
    """What means something in a URL is part of a name here; MLflow and SQLAlchemy both read the address."""
    name = "a?b=c&x%2Fy#{z} 100%"
    monkeypatch.chdir(tmp_path)
    storage = Storage(str(tmp_path / name))
    storage.prepare()
    client = open_client(storage.tracking_uri, storage)
    experiment = find_experiment(client, "job", storage, uri=storage.tracking_uri)
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "kept", "note.txt")
    assert [item.path for item in client.list_artifacts(run)] == ["note.txt"]
    assert list_experiments(storage) == [("job", experiment)]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert sorted(path.name for path in (tmp_path / name).iterdir()) == [".lock", "mlartifacts", "mlflow.db"]


def test_a_database_that_another_process_has_made_meanwhile_is_kept(storage, monkeypatch):
    asked = mlflow.MlflowClient.search_experiments

    def slow(client, **options):
        with closing(sqlite3.connect(storage.path("mlflow.db"))) as other:
            other.execute("CREATE TABLE IF NOT EXISTS theirs (x)")
        return asked(client, **options)

    monkeypatch.setattr(mlflow.MlflowClient, "search_experiments", slow)
    storage.path("").mkdir()
    open_client(storage.tracking_uri, storage)
    with closing(sqlite3.connect(storage.path("mlflow.db"))) as kept:
        kept.execute("SELECT * FROM theirs")
