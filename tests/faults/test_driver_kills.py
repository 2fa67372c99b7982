"""The driver, killed with kill -9 at any moment and started again: nothing is lost, nothing is done twice."""

import random
import secrets
import signal
import time
from pathlib import Path

import pytest
from aftermath import Reference, check_finished, check_interrupted
from grids import NAME, TRIALS, checkpoints_of, count_epochs, cut_short, write_grid
from jobs import adaptune
from processes import Command, agents, kill_all, slow_disk, wait_for_end, wait_until_gone, workers

RANDOM_KILLS = 20
SEED = 20261125  # of the moments


@pytest.mark.e2e
def test_a_job_killed_as_it_writes_a_checkpoint_damaged_interrupted_and_killed_as_it_selects_lacks_nothing(
    tmp_path: Path, reference: Reference
) -> None:
    write_grid(tmp_path)
    storage, mark = tmp_path / "runs", secrets.token_hex(8)
    kill_while_writing(tmp_path, mark)
    assert check_interrupted(storage, NAME, at_most=TRIALS) > 0
    cut_short(checkpoints_of(storage)[-1])  # in turn with a killed write: trained again as well
    interrupt_twice(tmp_path, mark)
    assert check_interrupted(storage, NAME, at_most=TRIALS) > 0

    command = Command("run", f"{NAME}.yaml", folder=tmp_path, mark=mark)
    assert command.wait_for_output("reading the test set")
    command.signal()
    command.wait(-9)
    check_interrupted(storage, NAME, at_most=TRIALS)

    adaptune("resume", NAME, folder=tmp_path)
    check_finished(storage, NAME, trials=TRIALS, reference=reference, mark=mark)


def kill_while_writing(folder: Path, mark: str) -> None:
    """Kill a job's driver and workers while a checkpoint that follows a whole one is half written."""
    checkpoints = folder / "runs" / NAME / "checkpoints" / "topics" / "adapter"
    environment = slow_disk(folder / "slow", "/checkpoints/")
    command = Command("run", f"{NAME}.yaml", folder=folder, mark=mark, environment=environment)

    def half_written() -> bool:
        return any(checkpoints.glob("*.safetensors")) and any(checkpoints.glob(".writing-*"))

    assert command.wait_until(half_written), command.output
    kill_all([*workers(mark), command.process.pid])
    command.wait(-9)
    assert any(checkpoints.glob(".writing-*")), "the write had ended before the kill"


def interrupt_twice(folder: Path, mark: str) -> None:
    """Ctrl-C twice while a job trains: it ends at once, and says how to go on."""
    storage = folder / "runs"
    before = count_epochs(storage)
    command = Command("run", f"{NAME}.yaml", folder=folder, mark=mark)
    assert command.wait_until(lambda: count_epochs(storage) >= before + 5), command.output
    command.signal(signal.SIGINT)
    time.sleep(0.3)
    command.signal(signal.SIGINT)
    output = command.wait(130)
    assert f"adaptune resume {NAME}" in output
    assert "Traceback" not in output
    wait_until_gone(mark)


@pytest.mark.faults
def test_twenty_kills_at_random_moments_change_nothing(
    tmp_path: Path, reference: Reference, undisturbed
) -> None:
    chance = random.Random(SEED)
    kills, jobs = 0, 0
    while kills < RANDOM_KILLS:
        folder, mark = tmp_path / str(jobs), secrets.token_hex(8)
        write_grid(folder)
        while kills < RANDOM_KILLS:
            command = Command("run", f"{NAME}.yaml", folder=folder, mark=mark)
            life, at_work = undisturbed.seconds, kills % 2 == 1
            if not wait_for_moment(command, folder / "runs", chance, life, at_work=at_work):
                command.wait(0)
                break
            command.signal()
            command.process.wait()
            kills += command.process.returncode == -9
            check_interrupted(folder / "runs", NAME, at_most=TRIALS)
        Command("run", f"{NAME}.yaml", folder=folder, mark=mark).wait(0)
        counts = check_finished(folder / "runs", NAME, trials=TRIALS, reference=reference, mark=mark)
        print(f"job {jobs} after {kills} kills: {counts}")
        jobs += 1
    wait_for_end(lambda: agents(tmp_path))


def wait_for_moment(
    command: Command, storage: Path, chance: random.Random, life_seconds: float, *, at_work: bool
) -> bool:
    """Any moment of a driver's life, or any while it trains; False if it ended before."""
    if not at_work:
        deadline = time.monotonic() + chance.uniform(0, life_seconds)
        return command.wait_until(lambda: time.monotonic() >= deadline)
    goal = count_epochs(storage) + chance.randint(1, 30)
    reached = command.wait_until(lambda: count_epochs(storage) >= goal)
    time.sleep(chance.uniform(0, 0.2))
    return reached and not command.ended


@pytest.mark.faults
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.2, 0.5, 1.0])
def test_a_driver_killed_at_any_moment_of_selecting_leaves_one_winner(
    tmp_path: Path, reference: Reference, delay: float
) -> None:
    write_grid(tmp_path)
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    assert command.wait_for_output("reading the test set")
    time.sleep(delay)
    command.signal()
    command.process.wait()
    Command("run", f"{NAME}.yaml", folder=tmp_path, mark=command.mark).wait(0)
    check_finished(tmp_path / "runs", NAME, trials=TRIALS, reference=reference, mark=command.mark)
