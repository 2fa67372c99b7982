"""Files that were cut short or changed: found by checksum, made again or told of; never believed."""

import signal
from pathlib import Path

import pytest
from aftermath import Reference, check_finished, check_interrupted
from grids import NAME, TRIALS, checkpoints_of, count_epochs, cut_short, write_grid
from jobs import adaptune
from processes import Command, wait_until_gone
from studies import add

from search.job.job import SearchJob
from search.plan import make_plan
from search.runner import open_studies
from search.storage import Storage
from search.study import Record


def interrupt(folder: Path, *, epochs: int = 20) -> Command:
    """A job that was killed with so many epochs recorded."""
    write_grid(folder)
    command = Command("run", f"{NAME}.yaml", folder=folder)
    assert command.wait_until(
        lambda: count_epochs(folder / "runs") >= epochs and len(checkpoints_of(folder / "runs")) >= 2
    )
    command.signal()
    command.process.wait()
    wait_until_gone(command.mark)  # nobody writes a checkpoint any more
    return command


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-len(data) // 3] ^= 4
    path.write_bytes(bytes(data))


def take_away(path: Path) -> None:
    path.unlink()


@pytest.mark.faults
def test_damaged_checkpoints_are_trained_again(tmp_path: Path, reference: Reference) -> None:
    command = interrupt(tmp_path)
    storage = tmp_path / "runs"
    checkpoints = checkpoints_of(storage)
    cut_short(checkpoints[-1])
    flip_a_bit(checkpoints[-2])
    output = Command("resume", NAME, folder=tmp_path, mark=command.mark).wait(0)
    assert "Traceback" not in output
    check_finished(storage, NAME, trials=TRIALS, reference=reference, mark=command.mark)


@pytest.mark.faults
@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, take_away])
def test_all_checkpoints_of_an_interrupted_job_damaged_at_once(
    tmp_path: Path, reference: Reference, damage
) -> None:
    """Those of finished trials, too: the winner's is found damaged when the bundle is to be written."""
    command = interrupt(tmp_path, epochs=60)
    storage = tmp_path / "runs"
    for path in checkpoints_of(storage):
        damage(path)
    output = Command("resume", NAME, folder=tmp_path, mark=command.mark).wait(0)
    assert "Traceback" not in output
    check_finished(storage, NAME, trials=TRIALS, reference=reference, mark=command.mark)


@pytest.mark.e2e
def test_a_damaged_study_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    job = SearchJob.load(write_grid(tmp_path), storage=str(tmp_path / "runs"))
    storage = Storage(job.storage)
    storage.prepare()
    with Record(storage) as record:
        (study,) = open_studies(record, storage, make_plan(job))
        add(study, [0.5])
    database = tmp_path / "runs" / "studies.db"
    whole = database.read_bytes()
    half = whole[: len(whole) // 2]
    garbled = whole[:4096] + b"\x00garbage" * (len(whole) // 8 - 512)
    commands = (("results", NAME), ("run", f"{NAME}.yaml"), ("resume", NAME))
    foreign = b"not a database at all, but long enough to look at" * 100
    for damaged, tried in (
        (half, commands),
        (garbled, commands[-1:]),
        (foreign, commands[-1:]),
        (whole[:50], commands),
    ):
        database.write_bytes(damaged)
        for command in tried:
            done = adaptune(*command, folder=tmp_path, check=2)
            assert "studies.db" in done.stderr
            assert "backup" in done.stderr
            assert "Traceback" not in done.stderr
            assert database.read_bytes() == damaged  # whoever can repair it, can
    database.write_bytes(whole)
    assert "0.5" in adaptune("results", NAME, folder=tmp_path).stdout


@pytest.mark.faults
def test_a_damaged_mlflow_database_stops_no_search_and_is_filled_again(
    tmp_path: Path, reference: Reference
) -> None:
    write_grid(tmp_path)
    storage = tmp_path / "runs"
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    assert command.wait_until(lambda: count_epochs(storage) >= 10)
    command.signal(signal.SIGTERM)
    command.wait(130)
    assert check_interrupted(storage, NAME, at_most=TRIALS)
    cut_short(storage / "mlflow.db")
    output = Command("resume", NAME, folder=tmp_path, mark=command.mark).wait(0)
    assert "MLflow is behind" in output
    assert "mlflow.db" in output
    (storage / "mlflow.db").unlink()
    adaptune("resume", NAME, folder=tmp_path)
    check_finished(storage, NAME, trials=TRIALS, reference=reference, mark=command.mark)
