"""The servers that a search talks to go away: MLflow's costs nothing, the database's ends it in order."""

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from aftermath import Reference, check_finished, check_interrupted
from grids import NAME, TRIALS, count_epochs, write_grid
from jobs import adaptune
from mlflow_jobs import Server
from postgres import Postgres, start_postgres
from processes import Command, wait_until_gone

from search.storage import Storage
from search.study import Record

pytestmark = pytest.mark.faults

AWAY_SECONDS = 120


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    database = tmp_path / "fresh.db"
    mlflow.MlflowClient(f"sqlite:///{database}").search_experiments()
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server", database)
    server.start()
    yield server
    server.stop()


def test_an_mlflow_server_that_is_killed_for_two_minutes_lacks_nothing_afterwards(
    tmp_path: Path, server: Server, reference: Reference
) -> None:
    """The search is over long before: it ends well and says that MLflow is behind; `resume` delivers."""
    write_grid(tmp_path, tracking={"uri": server.uri})
    storage = tmp_path / "runs"
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    assert command.wait_until(lambda: count_epochs(storage) >= 8)
    server.stop()
    away_since = time.monotonic()
    output = command.wait(0)
    assert "MLflow is behind" in output
    assert f"adaptune resume {NAME}" in output
    time.sleep(max(0, AWAY_SECONDS - (time.monotonic() - away_since)))
    server.start()
    adaptune("resume", NAME, folder=tmp_path)
    database = server.folder / "server.db"
    check_finished(storage, NAME, trials=TRIALS, reference=reference, mark=command.mark, tracking=database)


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with start_postgres() as postgres:
        yield postgres


def recorded(postgres: Postgres, storage: Path, job: str = NAME) -> int:
    """How many epochs the record has."""
    if not (storage / job / "job.json").exists():
        return 0
    with Record(Storage(str(storage), postgres.url)) as record:
        return sum(len(trial.epochs) for study in record.studies(job) for trial in study.trials())


def test_two_drivers_on_one_postgresql_do_not_mix(
    tmp_path: Path, postgres: Postgres, reference: Reference
) -> None:
    """Two jobs at once from a storage of their own each, and of one of them a second driver."""
    mark = secrets.token_hex(8)
    commands = {}
    for name in (NAME, "others"):
        write_grid(tmp_path / name, name=name, database=postgres.url)
        commands[name] = Command("run", f"{name}.yaml", folder=tmp_path / name, mark=mark)
    assert commands[NAME].wait_until(lambda: recorded(postgres, tmp_path / NAME / "runs") >= 3)
    refused = Command("run", f"{NAME}.yaml", folder=tmp_path / NAME).wait(2)
    assert "being run already" in refused
    for name, command in commands.items():
        command.wait(0)
        check_finished(
            tmp_path / name / "runs",
            name,
            trials=TRIALS,
            reference=reference,
            mark=mark,
            database=postgres.url,
        )


@pytest.mark.parametrize("fault", ["connections cut", "server killed"])
def test_a_search_outlives_its_database_connection_or_ends_in_order_and_is_resumed(
    tmp_path: Path, postgres: Postgres, reference: Reference, fault: str
) -> None:
    write_grid(tmp_path, database=postgres.url)
    storage = tmp_path / "runs"
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    assert command.wait_until(lambda: recorded(postgres, storage) >= 8)
    if fault == "connections cut":
        postgres.cut_connections()
    else:
        postgres.kill()
    output = command.wait()
    print(f"{fault}: exit {command.process.returncode}")
    assert "Traceback" not in output
    if fault == "server killed":
        assert command.process.returncode == 1
        assert "its database" in output
        assert f"adaptune resume {NAME}" in output.replace("\n", " ")
        again = Command("resume", NAME, "--database", postgres.url, folder=tmp_path).wait()  # still away
        assert "Traceback" not in again
        postgres.start()
    wait_until_gone(command.mark)
    if command.process.returncode:
        check_interrupted(storage, NAME, at_most=TRIALS, database=postgres.url)
    adaptune("resume", NAME, "--database", postgres.url, folder=tmp_path)
    check_finished(
        storage, NAME, trials=TRIALS, reference=reference, mark=command.mark, database=postgres.url
    )
