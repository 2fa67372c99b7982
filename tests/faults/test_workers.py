"""Trials that fail, hang or lose their worker: retried where that helps, else failed once and with reason."""

import os
import resource
import signal
import time
from pathlib import Path

import pytest
from aftermath import Reference, check_finished
from grids import NAME, SEARCH, TRIALS, count_epochs, write_grid
from jobs import adaptune, read_json, read_trials
from processes import Command, kill_all, workers

LARGE, SPARE_BYTES = 1_000_000, 400_000_000  # an adapter that takes gigabytes, and what is left for it
HUGE = 1e30  # a learning rate that no training survives


@pytest.mark.faults
def test_workers_killed_mid_epoch_cost_no_trial_and_no_epoch(tmp_path: Path, reference: Reference) -> None:
    """All of them at once, twice: as often as a trial is retried."""
    write_grid(tmp_path)
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    for _ in range(2):
        goal = count_epochs(tmp_path / "runs") + 8
        assert command.wait_until(lambda goal=goal: count_epochs(tmp_path / "runs") >= goal)
        kill_all(workers(command.mark))
    (checkpoints,) = (tmp_path / "runs").rglob("checkpoints/topics/adapter")
    (checkpoints / ".writing-when-killed").touch()  # most kills hit no worker that writes
    command.wait(0)
    check_finished(tmp_path / "runs", NAME, trials=TRIALS, reference=reference, mark=command.mark)


@pytest.mark.faults
def test_a_trial_whose_worker_dies_each_time_fails_once_and_the_others_do_not(tmp_path: Path) -> None:
    """As when the machine's memory runs out and the kernel kills it: two retries, then it has failed."""
    write_grid(tmp_path, resources={"concurrent": 1})
    storage = tmp_path / "runs"
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    assert command.kill_workers_until("-> failed: its worker died"), command.output
    command.wait(0)
    first = read_trials(storage)[0]
    assert first.state == "failed"
    assert first.reason is not None
    assert "worker died" in first.reason
    check_finished(storage, NAME, trials=TRIALS, failed=1, mark=command.mark)


@pytest.mark.faults
def test_trials_that_diverge_fail_once_with_the_reason_and_are_not_retried(tmp_path: Path) -> None:
    write_grid(tmp_path, space={"learning_rate": [1e-3, HUGE], "adapter_size": [2, 4, 8], "epochs": [3]})
    storage = tmp_path / "runs"
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    command.wait(0)
    for trial in read_trials(storage):
        assert (trial.state == "failed") == (trial.params["learning_rate"] == HUGE), trial
        if trial.state == "failed":
            assert (trial.reason or "").startswith("TrialDiverged"), trial.reason
    check_finished(storage, NAME, trials=TRIALS, failed=3, mark=command.mark)


@pytest.mark.faults
def test_trials_for_which_memory_does_not_suffice_fail_once_with_the_reason(tmp_path: Path) -> None:
    """A limit on the worker's address space, set once it has loaded everything."""
    space = {"learning_rate": [1e-3, 3e-3], "adapter_size": [2, 4, LARGE], "epochs": [3]}
    # With this seed the large ones are the fourth and fifth.
    search = {**SEARCH, "seed": 4}
    write_grid(tmp_path, space=space, search=search, resources={"concurrent": 1})
    storage = tmp_path / "runs"
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    assert command.wait_until(lambda: count_epochs(storage) >= 1)
    found = workers(command.mark)
    assert found
    for pid in found:
        limit = address_space(pid) + SPARE_BYTES
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    command.wait(0)
    for trial in read_trials(storage):
        assert (trial.state == "failed") == (trial.params["adapter_size"] == LARGE), trial
        if trial.state == "failed":
            assert "memory" in (trial.reason or "").lower(), trial.reason
    check_finished(storage, NAME, trials=TRIALS, failed=2, mark=command.mark)


def address_space(pid: int) -> int:
    """A process's, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * resource.getpagesize()


@pytest.mark.faults
def test_a_search_whose_first_trials_all_fail_alike_stops_and_says_why(tmp_path: Path) -> None:
    space = {"learning_rate": {"low": 1e29, "high": HUGE}, "adapter_size": [2, 4, 8], "epochs": [3]}
    write_grid(tmp_path, space=space, search={"trials": 50, "sampler": "random"})
    started = time.monotonic()
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    output = command.wait(1)
    print(f"given up after {time.monotonic() - started:.0f} s")
    assert "all failed in the same way: TrialDiverged" in output.replace("\n", " ")
    trials = read_trials(tmp_path / "runs")
    assert 3 <= len(trials) < 8
    assert {trial.state for trial in trials} == {"failed"}
    entry = read_json(adaptune("results", NAME, "--json", folder=tmp_path))["tasks"][0]
    assert (entry["state"], entry["trials"]["failed"]) == ("failed", len(trials))


@pytest.mark.faults
def test_a_worker_that_hangs_is_ended_and_its_trial_fails_with_the_timeout(tmp_path: Path) -> None:
    """Stopped, as by a file system that does not answer: it takes no call and no signal but the last."""
    write_grid(tmp_path, trial_timeout=0.75, resources={"concurrent": 1})
    storage = tmp_path / "runs"
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    assert command.wait_until(lambda: count_epochs(storage) >= 3)
    for pid in workers(command.mark):
        os.kill(pid, signal.SIGSTOP)
    command.wait(0)
    first, *others = read_trials(storage)
    assert first.state == "failed"
    assert first.reason is not None
    assert first.reason.startswith("TrialTimeout")
    assert {trial.state for trial in others} == {"complete"}
    check_finished(storage, NAME, trials=TRIALS, failed=1, mark=command.mark)
