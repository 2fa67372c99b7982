"""Two at once: of one job the second is refused or takes over a dead one's place; two jobs never mix."""

import secrets
import signal
import time
from pathlib import Path

import pytest
from aftermath import Reference, check_finished
from grids import NAME, TRIALS, count_epochs, write_grid
from processes import Command


@pytest.mark.e2e
def test_of_two_runs_of_one_job_one_is_refused_and_one_job_of_another_name_runs_beside_it(
    tmp_path: Path, reference: Reference
) -> None:
    """On one storage that none of them has made yet."""
    mark = secrets.token_hex(8)
    write_grid(tmp_path, resources={"concurrent": 1})
    write_grid(tmp_path, name="others", resources={"concurrent": 1})
    first, second, other = (
        Command("run", f"{name}.yaml", folder=tmp_path, mark=mark) for name in (NAME, NAME, "others")
    )
    outputs = [command.wait() for command in (first, second)]
    codes = [command.process.returncode for command in (first, second)]
    assert sorted(codes) == [0, 2], outputs
    refused = outputs[codes.index(2)]
    assert "being run already" in refused
    assert "Traceback" not in refused
    other.wait(0)
    for name in (NAME, "others"):
        check_finished(tmp_path / "runs", name, trials=TRIALS, reference=reference, mark=mark)


@pytest.mark.faults
def test_a_driver_takes_over_from_a_dead_one_and_not_from_one_that_is_stopped(
    tmp_path: Path, reference: Reference
) -> None:
    """A stopped process (Ctrl-Z) lives: it would go on beside the second one."""
    write_grid(tmp_path)
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    assert command.wait_until(lambda: count_epochs(tmp_path / "runs") >= 3)
    command.signal(signal.SIGSTOP)
    time.sleep(75)  # longer than the record takes a driver on another machine for alive
    refused = Command("run", f"{NAME}.yaml", folder=tmp_path).wait(2)
    assert "being run already" in refused
    command.signal(signal.SIGCONT)
    command.wait(0)
    check_finished(tmp_path / "runs", NAME, trials=TRIALS, reference=reference, mark=command.mark)
