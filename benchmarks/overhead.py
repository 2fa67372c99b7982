"""What does a search cost when training costs nothing? adaptune, and stock OptunaSearch + MLflow on Ray Tune.

    python benchmarks/overhead.py --out overhead.md
    python benchmarks/overhead.py --trials 100 --peer-trials 100     # a quick look

Our side is a real search (study and MLflow on SQLite, warm workers, two at a time) whose trials report one
epoch without training it; the end of a job, selection and bundle, is left out. The peer gets the same
space, sampler, concurrency, SQLite stores and warm workers. Each side runs in a process of its own.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tables import Report

AT_ONCE = 2
SPACE = {"adapter_size": (8, 256), "learning_rate": (3e-5, 3e-3)}  # both log-uniform


def resident_megabytes() -> float:
    """Memory of this process that is in RAM, its libraries' included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def score_of(params: dict[str, Any]) -> float:
    """Stands in for a validation score: best at size 64 and rate 3e-4."""
    off = math.log10(params["learning_rate"] / 3e-4) ** 2 + math.log2(params["adapter_size"] / 64) ** 2 / 10
    return 0.9 / (1 + off)


class Clock:
    """Seconds since the first trial ended, and the driver's memory, by number of ended trials."""

    def __init__(self) -> None:
        self.samples: dict[int, tuple[float, float]] = {}

    def count(self, ended: int) -> None:
        if ended not in self.samples:
            self.samples[ended] = (time.perf_counter(), resident_megabytes())


def run_ours(trials: int, folder: Path) -> Clock:
    """A search of adaptune's own, but for the training."""
    from material import save_random_encoder, toy_job

    from pipelines.results import EpochResult
    from search import runner, tuning
    from search.progress import Progress
    from search.record import Trial
    from search.study import Study
    from search.workers.reports import REPORT, TrialReport
    from search.workers.trial import WorkerTrial

    class IdleTrial(WorkerTrial):
        """Takes a trial, reports one epoch."""

        def setup(self, config: dict[str, Any], context: object = None) -> None:
            self._begin(config)

        def step(self) -> dict[str, Any]:
            score = score_of(self._assignment.params)
            epoch = EpochResult(
                1, 1 - score, {"accuracy": score}, score, seconds=0.0, finished_at=time.time()
            )
            report = TrialReport((epoch,), os.uname().nodename, 1, finished=True)
            return {REPORT: report.dumps(), "done": True}

    clock = Clock()

    class Counter(Progress):
        """Counts trials as they end."""

        def __init__(self) -> None:
            self._ended: set[int] = set()

        def update(self, study: Study, trial: Trial) -> None:
            if trial.state != "running":
                self._ended.add(trial.number)
                clock.count(len(self._ended))

    tuning.WorkerTrial = IdleTrial
    runner.finish_studies = lambda *_args, **_kwargs: None
    space = {name: {"low": low, "high": high, "log": True} for name, (low, high) in SPACE.items()}
    job = toy_job(
        folder,
        save_random_encoder(folder / "encoder", layers=1, width=64, vocabulary=100),
        name="overhead",
        space={**space, "epochs": 1},
        search={"trials": trials, "sampler": "tpe"},
        resources={"cpus": 1, "concurrent": AT_ONCE},
    )
    runner.run(job, progress=Counter())
    return clock


def run_stock(trials: int, folder: Path) -> Clock:
    """What Ray's documentation has a user assemble."""
    import optuna
    import ray
    from optuna.distributions import FloatDistribution, IntDistribution
    from optuna.storages import RDBStorage
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    clock = Clock()

    class IdleTrial(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._params = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._params = new_config
            return True

        def step(self) -> dict[str, Any]:
            return {"score": score_of(self._params), "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
            return {}

        def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
            pass

    class Counter(tune.Callback):
        ended = 0

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.ended += 1
            clock.count(self.ended)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    size, rate = SPACE["adapter_size"], SPACE["learning_rate"]
    searcher = OptunaSearch(
        space={
            "adapter_size": IntDistribution(*size, log=True),
            "learning_rate": FloatDistribution(*rate, log=True),
        },
        metric="score",
        mode="max",
        storage=RDBStorage(f"sqlite:///{folder}/studies.db", engine_kwargs={"connect_args": {"timeout": 60}}),
        study_name="overhead",
    )
    uri = f"sqlite:///{folder}/mlflow.db"
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        tune.Tuner(
            IdleTrial,
            tune_config=tune.TuneConfig(
                metric="score",
                mode="max",
                search_alg=ConcurrencyLimiter(searcher, max_concurrent=AT_ONCE),
                num_samples=trials,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="run",
                storage_path=str(folder / "tune"),
                callbacks=[MLflowLoggerCallback(tracking_uri=uri, experiment_name="overhead"), Counter()],
                verbose=0,
            ),
        ).fit()
    finally:
        ray.shutdown()
    return clock


SIDES: dict[str, Callable[[int, Path], Clock]] = {"adaptune": run_ours, "stock": run_stock}


def work(side: str, trials: int) -> None:
    """In the side's own process: search, then say what it took."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        clock = SIDES[side](trials, Path(folder))
        line = {"total": time.perf_counter() - started, "samples": clock.samples}
        print("\n" + json.dumps(line))


def measure(side: str, trials: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, "--trials", str(trials)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=folder, check=True)
    line = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{side}: {trials} trials in {line['total']:.0f} s", file=sys.stderr)
    line["samples"] = {int(ended): sample for ended, sample in line["samples"].items()}
    return {**line, "trials": trials}


def row(name: str, found: dict[str, Any]) -> list[str]:
    samples, last = found["samples"], max(found["samples"])
    early = 200 if last > 200 else max(1, last // 5)
    between = (samples[last][0] - samples[early][0]) / (last - early)
    growth = samples[last][1] / samples[early][1] - 1
    return [
        name,
        str(found["trials"]),
        str(last),
        f"{found['total']:.0f}",
        f"{found['total'] / found['trials']:.3f}",
        f"{between:.3f}",
        f"{samples[early][1]:.0f} (trial {early})",
        f"{samples[last][1]:.0f} (trial {last})",
        f"{growth:+.1%}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--peer-trials", type=int, default=1000, help="0: our side alone")
    parser.add_argument("--out", type=Path, help="write the table there, as markdown")
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)  # the process of one side
    options = parser.parse_args()
    if options.side:
        work(options.side, options.trials)
        return
    report = Report("Overhead: a search whose training does nothing")
    rows = [row("adaptune", measure("adaptune", options.trials))]
    if options.peer_trials:
        stock = "Ray Tune + OptunaSearch + MLflowLoggerCallback"
        rows.append(row(stock, measure("stock", options.peer_trials)))
    columns = ["side", "trials asked", "ended", "seconds in all", "a trial"]
    columns += ["a trial, later ones", "driver's MB early", "late", "growth"]
    report.add_table(columns, rows)
    report.notes = [
        f"{AT_ONCE} trials at a time; studies and MLflow on SQLite in a temporary folder; TPE; warm workers.",
        "In all: with Ray's start and end and MLflow's last delivery, without the start of Python.",
        "A trial, later ones: between the early and the last trial.",
    ]
    if options.peer_trials not in (0, options.trials):
        report.notes.append(
            f"The peer was measured on {options.peer_trials} trials only; whether a later one costs it more "
            "was not seen."
        )
    report.show(options.out)


if __name__ == "__main__":
    main()
