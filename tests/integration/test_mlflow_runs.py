"""Runs in MLflow that nobody would end: the next delivery of their job ends them, and no others."""

import shutil

import mlflow
import pytest
from mlflow_jobs import Job
from studies import add, opened, start

from search.storage import Storage
from search.tracking.runs import STORAGE_TAG, TRIAL_TAG, storage_name

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An MLflow database without runs: making its tables takes seconds."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(params=["own", "shared"])
def tracking(request, tmp_path, database):
    """Where runs are kept: in the storage's own database (None), or in one that storages share."""
    shutil.copy(database, tmp_path / "shared.db")
    return None if request.param == "own" else f"sqlite:///{tmp_path}/shared.db"


@pytest.fixture
def begin(tmp_path, tracking, database):
    """Deliver a job of one name that is begun in a storage: one trial has ended, one is under way."""

    def begin(storage="runs"):
        root = tmp_path / storage
        with opened(root) as record:
            if not (root / "mlflow.db").exists():
                shutil.copy(database, root / "mlflow.db")
            job = Job(record, Storage(str(root)), tracking, "tickets")
            if not job.studies[0].trials():
                add(job.studies[0], [0.5])
                start(job.studies[0])
            job.deliver()
        return job

    return begin


def trial_runs(job):
    """Status and reason of a storage's runs of trials, by their ids."""
    runs = job.client.search_runs([job.experiment.experiment_id], f"tags.`{TRIAL_TAG}` LIKE '%'")
    return {
        run.info.run_id: (run.info.status, run.data.tags.get("reason"))
        for run in runs
        if run.data.tags[STORAGE_TAG] == storage_name(job.storage)
    }


def test_a_run_that_a_second_driver_made_of_a_trial_is_ended_with_the_reason(begin):
    job = begin()
    run = job.run("a/adapter/1")
    twin = job.client.create_run(job.experiment.experiment_id, tags=run.data.tags)
    begin()
    kept = run.info.run_id
    runs = trial_runs(job)
    assert runs.pop(twin.info.run_id) == ("KILLED", f"made twice: run {kept} is the one that goes on")
    assert runs.pop(kept) == ("RUNNING", None)
    assert list(runs.values()) == [("FINISHED", None)]


def test_runs_whose_record_is_gone_are_ended_with_the_reason_and_no_others(begin, tmp_path):
    job, other = begin(), begin("elsewhere")
    before, elsewhere = trial_runs(job), trial_runs(other)
    (tmp_path / "runs" / "studies.db").unlink()
    begin()
    after = trial_runs(job)
    assert sorted(after.pop(run) for run in before) == [
        ("FINISHED", None),
        ("KILLED", "its record is gone: the job was begun anew"),
    ]
    assert sorted(after.values()) == [("FINISHED", None), ("RUNNING", None)]
    assert trial_runs(other) == elsewhere
