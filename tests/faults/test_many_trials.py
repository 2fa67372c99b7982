"""A thousand trials with halving in one SQLite file, read and written by others meanwhile."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aftermath import check_finished, check_interrupted
from grids import NAME, write_grid
from processes import Command
from studies import epochs

from search.agenda import Agenda
from search.decisions.rules import Rules
from search.driver import drive
from search.job.job import SearchJob
from search.plan import make_plan
from search.results import read_results
from search.runner import open_studies
from search.storage import Storage
from search.study import Record, Study
from search.workers.reports import TrialReport

pytestmark = pytest.mark.faults

TRIALS = 1000
LEFT = 6  # for a real driver at the end
SLOTS = 8
SPACE = {
    "adapter_size": [2, 4, 8],
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "epochs": [3, 10],
}


def score(number: int, epoch: int) -> float:
    """Up to 0.5: those that are really trained at the end are better."""
    return 0.3 + (number * 7919 % 1000) / 10_000 + epoch / 200


class Pretended:
    """A search whose workers answer at once: all that record and rules have to do, and no training."""

    def __init__(self, study: Study, job: SearchJob, trials: int) -> None:
        study.hold()
        self.study = study
        self.agenda = Agenda(
            study,
            job.space_for("adapter"),
            sampler="random",
            seed=job.search.seed,
            trials=trials,
            rules=Rules("halving", job.search.reduction),
        )

    def go_on(self, until: int) -> None:
        """Until so many trials have been started."""
        while self.agenda.started < until:
            while len(self.agenda.live) < SLOTS and self.agenda.next_trial(lambda *_: None) is not None:
                pass
            for number in sorted(self.agenda.live):
                self.train(number)

    def train(self, number: int) -> None:
        trial = self.study.trial(number)
        done = len(trial.epochs) + 1
        report = TrialReport(
            epochs=epochs([score(number, epoch) for epoch in range(1, done + 1)]),
            trained_parameters=100 + number,
            node="here",
            finished=done == trial.schedule,
        )
        if self.agenda.take(number, report).state != "running":
            self.agenda.put_down(number)


@contextmanager
def read_all_the_time(storage: Storage, seen: list[int], failures: list[BaseException]) -> Iterator[None]:
    """What `adaptune results` does, again and again."""
    ended = threading.Event()

    def read() -> None:
        while not ended.wait(0.2):
            try:
                for name in (NAME, "others"):
                    entry: dict[str, Any] = read_results(name, storage)["tasks"][0]
                    seen.append(sum(entry["trials"].values()))
            except BaseException as error:
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        yield
    finally:
        ended.set()
        for reader in readers:
            reader.join()


def test_a_thousand_trials_with_halving_on_sqlite_are_never_locked_out_and_resume_quickly(
    tmp_path: Path,
) -> None:
    search = {"trials": TRIALS, "sampler": "random", "scheduler": "halving", "seed": 1}
    jobs = [
        SearchJob.load(
            write_grid(tmp_path, name=name, space=SPACE, search=search), storage=str(tmp_path / "runs")
        )
        for name in (NAME, "others")
    ]
    storage = Storage(str(tmp_path / "runs"))
    storage.prepare()
    plans = [make_plan(job) for job in jobs]
    failures: list[BaseException] = []
    seen: list[int] = []

    def pretend(job: SearchJob, plan: Any, trials: int) -> None:
        try:
            with Record(storage) as record:
                studies = open_studies(record, storage, plan)
                with drive(storage, studies):
                    Pretended(studies[0], job, TRIALS).go_on(trials)
        except BaseException as error:
            failures.append(error)

    for job, plan in zip(jobs, plans, strict=True):
        pretend(job, plan, SLOTS)  # so that there is something to read
    started = time.monotonic()
    drivers = [
        threading.Thread(target=pretend, args=(job, plan, trials))
        for job, plan, trials in zip(jobs, plans, (TRIALS - LEFT, TRIALS // 4), strict=True)
    ]
    with read_all_the_time(storage, seen, failures):
        for driver in drivers:
            driver.start()
        for driver in drivers:
            driver.join()
    assert failures == []
    spent = time.monotonic() - started
    assert check_interrupted(tmp_path / "runs", NAME, at_most=TRIALS) >= TRIALS - LEFT

    before = time.monotonic()
    with Record(storage) as record:
        studies = open_studies(record, storage, plans[0])
        pretended = Pretended(studies[0], jobs[0], TRIALS)
        paused = sum(trial.state == "paused" for trial in studies[0].trials())
    resumed = time.monotonic() - before
    print(f"{TRIALS + TRIALS // 4} trials in {spent:.0f} s, read {len(seen)} times meanwhile")
    print(f"{paused} wait; the record of {pretended.agenda.started} trials is resumed in {resumed:.1f} s")

    before = time.monotonic()
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    assert command.wait_for_output("going on")
    print(f"a real driver goes on after {time.monotonic() - before:.1f} s, Ray's start included")
    command.wait(0)
    Command("resume", NAME, folder=tmp_path, mark=command.mark).wait(0)  # MLflow may need longer than it had
    print(check_finished(tmp_path / "runs", NAME, trials=TRIALS, mark=command.mark))
