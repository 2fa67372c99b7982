"""How many epochs a second does one driver record, when a host full of trials trains nothing?

    python benchmarks/driver_rate.py --out driver_rate.md
    python benchmarks/driver_rate.py --databases sqlite --sides hooks --trials 100     # a quick look
    python benchmarks/driver_rate.py --databases sqlite --sides hooks --profile FILE   # where the time goes

A real search (searcher, study, checkpoints, MLflow) of 32 trials at a time at one host, which answers at
once: it writes a checkpoint and reports an epoch that nobody trained. `tune` is all of it, with Ray Tune and
a proxy for each trial; `hooks` asks the host directly and calls the searcher's and the scheduler's hooks as
Tune does, so that what Tune and the proxies take is left out. Selection and bundle are left out of both. Each
row runs in a process of its own, and ends with what the tests look for after a fault: every epoch that the
host told of is in the record, and in MLflow, once. PostgreSQL has to be installed on this machine.
"""

import argparse
import cProfile
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from tables import Report

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # whose PostgreSQL and checks serve here too
from aftermath import check_mlflow, check_trials
from postgres import start_postgres
from processes import MARK, named

AT_ONCE = 32
EPOCHS = 10
POLL_SECONDS = 0.1  # as Tune
LOOK_SECONDS = 5  # between two looks at the proxies' memory
CHECKPOINT_VALUES = 100_000  # of a trial that trains a small adapter
DATABASES = ("sqlite", "postgresql")
SIDES = ("hooks", "tune")
SCHEDULERS = ("none", "halving")


def make_idle_host() -> type:
    """A host's class that trains nothing; made here, so that Ray takes it along as it is."""
    from pipelines.results import EpochResult
    from search.workers.assignment import Assignment
    from search.workers.checkpoints import write_state
    from search.workers.context import WorkerContext
    from search.workers.reports import HostState, TrialReport

    class IdleHost:
        """Answers as `PackHost` does: with an epoch that is in the trial's checkpoint."""

        def __init__(self, context: WorkerContext, capacity: int | None) -> None:
            import torch

            self._context, self._capacity = context, capacity or 1
            self._tensors = {"last.weights": torch.zeros(CHECKPOINT_VALUES)}
            self._told: dict[str, list[EpochResult]] = defaultdict(list)

        def state(self) -> HostState:
            return HostState(self._capacity)

        def next_epoch(self, assignment: Assignment, visit: str) -> str:
            from pipelines.epochs import TrainingState

            told, number = self._told[assignment.key], assignment.known + 1
            if len(told) < number:
                score = 0.5 + 0.4 * (assignment.number * 7919 % 1000) / 1000 * (1 - 0.5**number)
                scores = {"accuracy": score, "f1": score / 2}
                told.append(
                    EpochResult(number, 1 - score, scores, score, 0.0, time.time(), validation_loss=1 - score)
                )
            config = assignment.config()
            write_state(self._context, assignment, TrainingState(config, tuple(told), self._tensors))
            return TrialReport(
                epochs=tuple(told[:number]),
                node="here",
                trained_parameters=CHECKPOINT_VALUES,
                finished=number == config.epochs,
            ).dumps()

        def told(self) -> dict[str, int]:
            return {key: len(epochs) for key, epochs in self._told.items()}

        def drop(self, assignment: Assignment, visit: str | None) -> None:
            pass

    return IdleHost


def call_hooks(_job: Any, _trainable: Any, searcher: Any, scheduler: Any, _context: Any) -> None:
    """What Ray Tune does with our searcher and scheduler, and no more of it."""
    import ray

    from search.workers.assignment import Assignment
    from search.workers.reports import REPORT, TrialReport

    trials: dict[Any, tuple[str, Assignment]] = {}  # by the answer that is under way

    def ask(trial_id: str, assignment: Assignment) -> None:
        answer = ray.get_actor(assignment.host).next_epoch.remote(assignment, trial_id)
        trials[answer] = trial_id, assignment

    while True:
        config: Any = None
        while isinstance(config := searcher.suggest(trial_id := uuid.uuid4().hex[:8]), dict):
            ask(trial_id, Assignment.from_tune(config))
        if not trials and config == searcher.FINISHED:
            return
        if trials:
            ray.wait(list(trials), timeout=POLL_SECONDS)
        else:
            time.sleep(POLL_SECONDS)  # the host starts
        for answer in ray.wait(list(trials), num_returns=len(trials), timeout=0)[0]:
            trial_id, assignment = trials.pop(answer)
            result = {REPORT: ray.get(answer)}
            report = TrialReport.loads(result[REPORT])
            trial = SimpleNamespace(trial_id=trial_id, config=assignment.to_tune())
            if report.finished:
                scheduler.on_trial_complete(None, trial, result)
                searcher.on_trial_complete(trial_id, result)
            elif scheduler.on_trial_result(None, trial, result) == scheduler.STOP:
                searcher.on_trial_complete(trial_id, result)
            else:
                ask(trial_id, replace(assignment, known=len(report.epochs)))


def search(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One search; what it took, and whether the record has all that the host told of."""
    from material import save_random_encoder, toy_job

    from search import runner, tuning
    from search.progress import Progress
    from search.record import Trial
    from search.storage import Storage
    from search.study import Record, Study
    from search.workers import pool as pools

    class Clock(Progress):
        """Counts epochs as they are recorded."""

        def __init__(self) -> None:
            self._known: dict[int, int] = defaultdict(int)
            self.recorded = 0
            self.samples: list[tuple[int, float, float, float]] = []  # epochs; seconds, and those of CPUs

        def update(self, study: Study, trial: Trial) -> None:
            new = len(trial.epochs) - self._known[trial.number]
            if new:
                self._known[trial.number] += new
                self.recorded += new
                self.samples.append(
                    (self.recorded, time.perf_counter(), time.thread_time(), time.process_time())
                )

    told: dict[str, int] = {}
    profile = cProfile.Profile(time.thread_time)  # the machine may have other work
    fit = call_hooks if options.side == "hooks" else tuning._fit
    close = pools.HostPool.close

    def fit_and_look(*arguments: Any) -> None:
        if options.profile:
            profile.runcall(fit, *arguments)
        else:
            fit(*arguments)

    def end_studies(_plan: Any, _context: Any, studies: Sequence[Study], **_: Any) -> None:
        for study in studies:
            study.fail("nothing was trained")

    def close_and_look(pool: Any) -> None:
        import ray

        for host in pool._hosts.values():
            told.update(ray.get(host.told.remote()))
        close(pool)

    pools.PackHost = make_idle_host()
    pools.HostPool.close = close_and_look
    tuning._fit = fit_and_look
    runner.finish_studies = end_studies
    clock = Clock()
    job = toy_job(
        folder,
        save_random_encoder(folder / "encoder", layers=1, width=64, vocabulary=100),
        name="rate",
        space={
            "adapter_size": {"low": 8, "high": 256, "log": True},
            "learning_rate": {"low": 3e-5, "high": 3e-3, "log": True},
            "epochs": EPOCHS,
        },
        search={"trials": options.trials, "sampler": "random", "scheduler": options.scheduler},
        resources={"cpus": 1, "pack": AT_ONCE},
        database=options.database,
        tracking={"uri": options.tracking},
    )
    runner.run(job, progress=clock)
    ended = time.perf_counter()
    if options.profile:
        profile.dump_stats(options.profile)
    with Record(Storage(job.storage, job.database)) as record:
        (study,) = record.studies(job.name)
        trials = study.trials()
        check_trials(study, trials=options.trials)
    assert {f"toy/adapter/{trial.number}": len(trial.epochs) for trial in trials} == told
    if options.tracking is None:
        check_mlflow(Path(job.storage, "mlflow.db"), study.name, trials)
    samples = clock.samples
    return {
        "epochs": clock.recorded,
        "between": (samples[len(samples) // 5], samples[-len(samples) // 5]),  # when all of them run
        "after": ended - samples[-1][1],
    }


def measure(side: str, database: str, scheduler: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, "--trials", str(options.trials)]
    command += ["--scheduler", scheduler]
    command += ["--profile", str(options.profile.resolve())] if options.profile else []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        if database == "postgresql":
            server = stack.enter_context(start_postgres())
            command += ["--database", server.url, "--tracking", server.create("mlflow")]
        mark = uuid.uuid4().hex
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=folder, env={**os.environ, MARK: mark}
        )
        proxies: list[tuple[int, int, int]] = []
        while running.poll() is None:
            now = [memory_of(pid) for pid in named(mark, "ray::PackedTrial", "ray::ResourceTrainable")]
            proxies = max(proxies, [known for known in now if known], key=len)
            time.sleep(LOOK_SECONDS)
    assert running.returncode == 0, "a search failed"
    assert running.stdout is not None
    found: dict[str, Any] = json.loads(running.stdout.read().strip().splitlines()[-1])
    return {**found, "proxies": proxies}


def memory_of(pid: int) -> tuple[int, int, int] | None:
    """What a process has alone, its own share of memory (PSS), and all that it has of RAM, in kB; None once
    it is gone.
    """
    try:
        fields = Path(f"/proc/{pid}/smaps_rollup").read_text().split()
    except OSError:
        return None
    own, clean, share, whole = (
        int(fields[fields.index(f"{name}:") + 1]) for name in ("Private_Dirty", "Private_Clean", "Pss", "Rss")
    )
    return own + clean, share, whole


def row(side: str, database: str, scheduler: str, found: dict[str, Any]) -> list[str]:
    epochs, seconds, searching, busy = (late - early for early, late in zip(*found["between"], strict=True))
    return [
        "hooks" if side == "hooks" else "with Ray Tune",
        database,
        scheduler,
        str(found["epochs"]),
        f"{epochs / seconds:.0f}",
        f"{1000 * searching / epochs:.1f}",
        f"{1000 * (busy - searching) / epochs:.1f}",
        f"{found['after']:.1f}",
        " / ".join(f"{median(column) / 1024:.0f}" for column in zip(*found["proxies"], strict=True)) or "-",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=300, help=f"of {EPOCHS} epochs at most")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES)
    parser.add_argument("--schedulers", nargs="+", choices=SCHEDULERS, default=SCHEDULERS)
    parser.add_argument("--profile", type=Path, help="write cProfile's figures of the last row there")
    parser.add_argument("--out", type=Path, help="write the table there, as markdown")
    for own in ("--side", "--database", "--tracking", "--scheduler"):  # of the process of one row
        parser.add_argument(own, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        with tempfile.TemporaryDirectory() as folder:
            print("\n" + json.dumps(search(options, Path(folder))))
        return
    report = Report("The driver: epochs recorded a second, by hosts that train nothing")
    rows = []
    for scheduler in options.schedulers:
        for database in options.databases:
            for side in options.sides:
                rows.append(row(side, database, scheduler, measure(side, database, scheduler, options)))
                print(*rows[-1], file=sys.stderr)
    columns = ["driver", "database", "scheduler", "epochs", "recorded a second"]
    columns += ["CPU ms an epoch: search", "other threads", "seconds until MLflow has all"]
    columns += ["a proxy's MB: private / PSS / RSS"]
    report.add_table(columns, rows)
    report.show(options.out)


if __name__ == "__main__":
    main()
