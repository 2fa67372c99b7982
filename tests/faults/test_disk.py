"""A full disk, a storage that cannot be written: said clearly, and gone on with once there is room.

Tests may run as root, for whom permissions prove nothing: the disk is a small one of its own, and where that
cannot be mounted, a limit on the size of files does the same.
"""

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aftermath import Reference, check_finished, check_interrupted
from grids import NAME, TRIALS, count_epochs, write_grid
from jobs import adaptune
from processes import Command, wait_until_gone, workers

DISK_BYTES = 24_000_000


def mount(folder: Path, options: str) -> None:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "runs"
    folder.mkdir()
    mount(folder, f"size={DISK_BYTES}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room at all."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for block in (1 << 16, 1):
            try:
                while file.write(b"0" * block):
                    pass
            except OSError:
                continue
    return ballast


def check_told(command: Command, storage: Path, cannot: str = "be written") -> None:
    """It ended with 1, said what is wrong with which storage and how to go on, and printed no traceback."""
    output = command.wait(1)
    assert "Traceback" not in output
    told = output.replace("\n", " ")
    assert f"storage {storage} cannot {cannot}" in told
    assert f"adaptune resume {NAME}" in told
    wait_until_gone(command.mark)
    check_interrupted(storage, NAME, at_most=TRIALS)


def fill_while_it_trains(folder: Path, disk: Path) -> tuple[Command, Path]:
    """A search that has ended as it should because its disk is full; the command, and what fills the disk."""
    write_grid(folder)
    command = Command("run", f"{NAME}.yaml", folder=folder)
    assert command.wait_until(lambda: count_epochs(disk) >= 5)
    ballast = fill(disk)
    check_told(command, disk)
    return command, ballast


@pytest.mark.e2e
def test_a_full_disk_ends_the_search_in_order_and_it_goes_on_when_there_is_room(
    tmp_path: Path, disk: Path, reference: Reference
) -> None:
    command, ballast = fill_while_it_trains(tmp_path, disk)
    ballast.unlink()
    adaptune("resume", NAME, folder=tmp_path)
    check_finished(disk, NAME, trials=TRIALS, reference=reference, mark=command.mark)


@pytest.mark.faults
def test_a_disk_that_is_still_full_is_told_again(tmp_path: Path, disk: Path, reference: Reference) -> None:
    command, ballast = fill_while_it_trains(tmp_path, disk)
    before = count_epochs(disk)

    again = Command("resume", NAME, folder=tmp_path, mark=command.mark)
    assert "cannot be written" in again.wait().replace("\n", " ")
    assert again.process.returncode in (1, 2)
    assert "Traceback" not in again.output
    assert count_epochs(disk) == before

    ballast.unlink()
    adaptune("resume", NAME, folder=tmp_path)
    check_finished(disk, NAME, trials=TRIALS, reference=reference, mark=command.mark)


@pytest.mark.faults
@pytest.mark.parametrize("whose", ["worker", "driver"])
def test_files_that_cannot_grow_are_a_full_disk(tmp_path: Path, reference: Reference, whose: str) -> None:
    write_grid(tmp_path)
    storage = tmp_path / "runs"
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    assert command.wait_until(lambda: count_epochs(storage) >= 5)
    limit = (storage / "studies.db").stat().st_size if whose == "driver" else 1000
    for pid in [command.process.pid] if whose == "driver" else workers(command.mark):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, limit))
    check_told(command, storage)
    adaptune("resume", NAME, folder=tmp_path)
    check_finished(storage, NAME, trials=TRIALS, reference=reference, mark=command.mark)


@pytest.mark.faults
def test_a_storage_that_is_read_only_is_refused_before_anything_starts(tmp_path: Path) -> None:
    write_grid(tmp_path)
    storage = tmp_path / "runs"
    storage.mkdir()
    mount(storage, "size=1m,ro")
    try:
        done = adaptune("run", f"{NAME}.yaml", folder=tmp_path, check=2)
        assert f"storage {storage} cannot be written" in done.stderr.replace("\n", " ")
        done = adaptune("results", NAME, folder=tmp_path, check=2)
        assert "Traceback" not in done.stderr
    finally:
        subprocess.run(["umount", "--lazy", str(storage)], check=True)


@pytest.mark.faults
def test_a_finished_job_can_be_read_from_a_storage_that_is_read_only(tmp_path: Path, disk: Path) -> None:
    write_grid(tmp_path, space={"adapter_size": [2, 4], "epochs": [1]}, search={"trials": 2})
    adaptune("run", f"{NAME}.yaml", folder=tmp_path)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    adaptune("results", NAME, "--json", folder=tmp_path)
    adaptune("export", NAME, "--out", tmp_path / "out", folder=tmp_path)
    assert (tmp_path / "out" / "topics" / "adapter.safetensors").is_file()


@pytest.mark.faults
def test_a_checkpoint_folder_that_cannot_be_written_is_told_and_put_right(
    tmp_path: Path, reference: Reference
) -> None:
    write_grid(tmp_path)
    storage = tmp_path / "runs"
    in_the_way = storage / NAME / "checkpoints" / "topics"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where a folder should be")
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    check_told(command, storage, cannot="be read")
    in_the_way.unlink()
    adaptune("resume", NAME, folder=tmp_path)
    check_finished(storage, NAME, trials=TRIALS, reference=reference, mark=command.mark)
