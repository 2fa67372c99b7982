"""The driver, killed with kill -9 at any moment and started again: nothing is lost, nothing is done twice."""

import random
import secrets
import time
from pathlib import Path

import pytest
from aftermath import Reference, check_finished, check_interrupted
from grids import NAME, TRIALS, count_epochs, write_grid
from jobs import adaptune
from processes import Command, kill_all, workers

RANDOM_KILLS = 20
SEED = 20261125  # of the moments


@pytest.mark.e2e
def test_a_job_killed_while_it_writes_a_checkpoint_and_while_it_selects_is_as_if_nothing_had_happened(
    tmp_path: Path, reference: Reference
) -> None:
    write_grid(tmp_path)
    storage, mark = tmp_path / "runs", secrets.token_hex(8)
    for _ in range(20):
        if kill_while_writing(tmp_path, mark):
            break
    else:
        pytest.fail("no kill hit a checkpoint that was being written")
    assert check_interrupted(storage, NAME, at_most=TRIALS) > 0

    command = Command("run", f"{NAME}.yaml", folder=tmp_path, mark=mark)
    assert command.wait_for_output("reading the test set")
    command.signal()
    command.wait(-9)
    check_interrupted(storage, NAME, at_most=TRIALS)

    adaptune("resume", NAME, folder=tmp_path)
    check_finished(storage, NAME, trials=TRIALS, reference=reference, mark=mark)


def kill_while_writing(folder: Path, mark: str) -> bool:
    """Kill a job's driver and workers when a half-written checkpoint is seen; whether one was left."""
    checkpoints = folder / "runs" / NAME / "checkpoints" / "topics" / "adapter"
    command = Command("run", f"{NAME}.yaml", folder=folder, mark=mark)
    known = set(checkpoints.glob("*"))
    assert command.wait_until(lambda: set(checkpoints.glob("*.safetensors")) - known != set() or bool(known))
    assert command.wait_until(lambda: len(workers(mark)) > 0)
    doomed = [*workers(mark), command.process.pid]
    while not any(checkpoints.glob(".writing-*")):
        assert not command.ended, command.output
        time.sleep(0.0002)  # on a busy machine, who sleeps is woken at once and who does not waits its turn
    kill_all(doomed)
    command.wait(-9)
    return any(checkpoints.glob(".writing-*"))


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
