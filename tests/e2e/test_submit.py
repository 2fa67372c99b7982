"""The same search through `submit`, on a real Ray cluster that asks for a token."""

import json
import time
from pathlib import Path

import pytest
from clusters import Cluster
from jobs import adaptune, read_json, trial_runs, write_job

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def submitted(ray_cluster: Cluster) -> Cluster:
    """The cluster, after the toy job has run there to its end."""
    here = ray_cluster.folder / "laptop"
    write_job(here)
    storage = ray_cluster.folder / "shared"
    address = ("--address", ray_cluster.address)
    environment = ray_cluster.environment()
    done = adaptune(
        "submit", "topics.yaml", *address, "--storage", storage, folder=here, environment=environment
    )
    assert "submitted topics" in done.stdout
    done = adaptune("logs", "topics", *address, "--follow", folder=here, environment=environment)
    assert "trial 2" in done.stdout
    # The log is read elsewhere than where the driver works.
    assert f"adaptune predict {storage}/topics/bundles/topics/adapter" in done.stdout
    return ray_cluster


def test_the_job_is_listed_as_finished(submitted: Cluster, tmp_path: Path) -> None:
    address = ("--address", submitted.address)
    for command in (("status", "topics"), ("list",)):
        done = adaptune(*command, *address, folder=tmp_path, environment=submitted.environment())
        assert "finished" in done.stdout


def test_results_and_bundles_come_by_address_from_another_folder(submitted: Cluster, tmp_path: Path) -> None:
    where = {"folder": tmp_path, "environment": submitted.environment()}
    address = ("--address", submitted.address)
    results = read_json(adaptune("results", "topics", *address, "--json", **where))
    assert results["state"] == "finished"
    assert results["tasks"][0]["trials"]["complete"] == 3
    adaptune("export", "topics", *address, "--out", "adapters", **where)
    # The encoder went with the job; here it is where it always was.
    encoder = submitted.folder / "laptop" / "encoder"
    predict = ("predict", "adapters/topics", "goal team", "--backbone", encoder, "--json")
    assert json.loads(adaptune(*predict, **where).stdout)["label"] == "sport"


def test_results_and_runs_come_by_storage_too(submitted: Cluster, tmp_path: Path) -> None:
    storage = submitted.folder / "shared"
    results = read_json(adaptune("results", "topics", "--storage", storage, "--json", folder=tmp_path))
    assert results["state"] == "finished"
    assert len(trial_runs(storage, "topics")) == 3


def test_a_stopped_job_is_resumed_on_the_cluster(submitted: Cluster, tmp_path: Path) -> None:
    where = {"folder": tmp_path, "environment": submitted.environment()}
    address = ("--address", submitted.address)
    storage = submitted.folder / "shared"
    space = {"adapter_size": [2, 4, 8], "epochs": [20], "batch_size": [128]}
    write_job(tmp_path, name="long", space=space, storage=str(storage))
    adaptune("submit", "long.yaml", *address, **where)
    deadline = time.monotonic() + 120
    while not list((storage / "long" / "checkpoints").rglob("*.safetensors")):
        assert time.monotonic() < deadline, adaptune("logs", "long", *address, **where).stdout
        time.sleep(0.5)
    done = adaptune("submit", "long.yaml", *address, check=2, **where)
    assert "already running" in done.stderr
    done = adaptune("stop", "long", *address, **where)
    assert "adaptune resume long" in done.stdout.replace("\n", " ")
    for path in tmp_path.glob("*.csv"):
        path.unlink()  # the job goes on from what was uploaded, not from what lies here
    adaptune("resume", "long", *address, **where)
    adaptune("logs", "long", *address, "--follow", **where)
    results = read_json(adaptune("results", "long", "--storage", storage, "--json", folder=tmp_path))
    assert results["state"] == "finished"
    assert results["tasks"][0]["trials"] == {
        "complete": 3,
        "pruned": 0,
        "failed": 0,
        "running": 0,
        "paused": 0,
    }


def test_nothing_is_submitted_without_the_token(submitted: Cluster, tmp_path: Path) -> None:
    write_job(tmp_path, name="refused", storage=str(submitted.folder / "shared"))
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "HOME": str(tmp_path)}
    done = adaptune(
        "submit",
        "refused.yaml",
        "--address",
        submitted.address,
        folder=tmp_path,
        environment=environment,
        check=2,
    )
    assert "refuses the token" in done.stderr
    assert not (submitted.folder / "shared" / "refused").exists()
