"""Ctrl-C and SIGTERM: once, the search ends in order; twice, at once. Both can be resumed.

Ctrl-C twice in the middle of a search is in test_driver_kills, and so in `make test`.
"""

import re
import shlex
import signal
import time
from pathlib import Path

import pytest
from aftermath import Reference, check_finished, check_interrupted
from grids import NAME, SEARCH, TRIALS, count_epochs, write_grid
from jobs import read_trials, write_topics
from processes import Command, wait_until_gone, workers

LONG_ROWS = 100_000  # one by one: an epoch of more than a minute
TRAINING_SECONDS = 15  # from when a worker has started; it is in the middle of that epoch
END_SECONDS = 40


def next_words(output: str, *, begun: bool) -> list[str]:
    """What the user types next: what was printed; the same again where nothing was begun, or all is done."""
    printed = re.search(r"Go on with: \S*adaptune (.*)", output)
    if printed is not None:
        assert begun
        return shlex.split(printed[1])
    assert "finished" in output if begun else "interrupted; nothing was begun" in output
    return ["run", f"{NAME}.yaml"]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("when", "sent", "gap"),  # seconds to a second one
    [
        ("reading the data", signal.SIGTERM, None),
        ("starting Ray", signal.SIGTERM, None),
        ("starting Ray", signal.SIGINT, 0.1),
        ("searching:", signal.SIGINT, None),
        ("searching:", signal.SIGTERM, 0.0),
        ("searching:", signal.SIGINT, 1.5),
        ("reading the test set", signal.SIGINT, None),
        ("reading the test set", signal.SIGTERM, 0.1),
    ],
)
def test_a_signal_at_any_stage_says_how_to_go_on(
    tmp_path: Path, reference: Reference, sent: signal.Signals, gap: float | None, when: str
) -> None:
    write_grid(tmp_path)
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    assert command.wait_for_output(when)
    command.signal(sent)
    if gap is not None:
        time.sleep(gap)
        command.signal(sent)
    output = command.wait()
    # One that comes too late finds the work done.
    expected = (130, 0) if when == "reading the test set" else (130,)
    assert command.process.returncode in expected, output
    assert "Traceback" not in output
    wait_until_gone(command.mark)
    Command(*next_words(output, begun=when != "reading the data"), folder=tmp_path, mark=command.mark).wait(0)
    check_finished(tmp_path / "runs", NAME, trials=TRIALS, reference=reference, mark=command.mark)


@pytest.mark.faults
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_long_epoch_does_not_wait_for_its_end(tmp_path: Path, sent: signal.Signals) -> None:
    space = {"adapter_size": [8], "learning_rate": [1e-3], "epochs": [1], "batch_size": [1]}
    write_grid(tmp_path, space=space, search=SEARCH | {"trials": 1})
    write_topics(tmp_path / "train.csv", rows=LONG_ROWS, seed=0)
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    assert command.wait_until(lambda: bool(workers(command.mark) and read_trials(tmp_path / "runs")))
    time.sleep(TRAINING_SECONDS)
    command.signal(sent)
    before = time.monotonic()
    output = command.wait(130)
    took = time.monotonic() - before
    assert took < END_SECONDS, output
    assert next_words(output, begun=True) == ["resume", NAME]
    wait_until_gone(command.mark)
    assert count_epochs(tmp_path / "runs") == 0
    assert check_interrupted(tmp_path / "runs", NAME, at_most=1) == 1
