"""What does a search find for the epochs that it spends? Replays of a recorded grid of real trials.

    python benchmarks/search_quality.py --seeds 50 --out search_quality.md

record_grid.py made the record. Each replay is a search by adaptune itself, its study in memory; only the
training is looked up. Two trials run beside each other, an epoch of each in turn.
"""

import argparse
import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from statistics import mean, median
from typing import Any

import optuna
import pyarrow.parquet as pq
from record_grid import OUT
from tables import Report

from search.agenda import Search
from search.experience import portfolio
from search.job_parts import SearchPart
from search.rules import Rules
from search.study import Study, TrialRecord
from search.trial import TrialReport
from spaces import Space

SLOTS = 2
WITHIN = 0.005
SHARES = (0.05, 0.10, 0.12, 0.20, 0.40, 1.0)  # of the grid's epochs
PARAMETERS = ("adapter_size", "learning_rate", "epochs")

Key = tuple[Any, ...]
Trials = Mapping[Key, list[dict[str, Any]]]  # epochs, by configuration


@dataclass(frozen=True)
class Recorded:
    """A task's grid.

    Attributes:
        trials: by the values of `PARAMETERS`: an epoch's number, score and seconds, first epoch first.
    """

    trials: Trials

    @property
    def best(self) -> float:
        return max(epoch["score"] for epochs in self.trials.values() for epoch in epochs)

    @property
    def worst(self) -> float:
        """The score of the worst configuration."""
        return min(max(epoch["score"] for epoch in epochs) for epochs in self.trials.values())

    @property
    def cost(self) -> int:
        """Epochs of the whole grid."""
        return sum(len(epochs) for epochs in self.trials.values())

    def space(self) -> Space:
        values = zip(*self.trials, strict=True)
        return Space.parse({name: sorted(set(found)) for name, found in zip(PARAMETERS, values, strict=True)})


@dataclass(frozen=True)
class Side:
    """A way to search."""

    name: str
    sampler: str
    scheduler: str
    experienced: bool = False


DEFAULT = SearchPart()
SIDES = (
    Side("grid", "grid", "none"),
    Side("random", "random", "none"),
    Side("TPE", "tpe", "none"),
    Side("TPE + halving: the default", DEFAULT.sampler, DEFAULT.scheduler),
    Side("the default, with experience", DEFAULT.sampler, DEFAULT.scheduler, experienced=True),
)


def read_record(path: Path) -> dict[str, dict[int, Recorded]]:
    """The recorded grids by task and training seed."""
    found: dict[str, dict[int, dict[Key, list[dict[str, Any]]]]] = defaultdict(lambda: defaultdict(dict))
    for row in sorted(pq.read_table(path).to_pylist(), key=lambda row: row["epoch"]):
        key = tuple(row[name] for name in PARAMETERS)
        epoch = {name: row[name] for name in ("epoch", "score", "seconds")}
        found[row["task"]][row["seed"]].setdefault(key, []).append(epoch)
    return {task: {seed: Recorded(trials) for seed, trials in seeds.items()} for task, seeds in found.items()}


def replay(task: Recorded, side: Side, seed: int, first: Sequence[Mapping[str, Any]]) -> list[float]:
    """The best score after each epoch spent."""
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="replay/task/adapter", storage=storage, direction="maximize")
    study = Study(storage, "replay/task/adapter")  # type: ignore[arg-type]
    study.hold()
    search = Search(
        study,
        task.space(),
        sampler=side.sampler,
        seed=seed,
        trials=len(task.trials),
        rules=Rules(side.scheduler, DEFAULT.reduction),  # type: ignore[arg-type]
        first=first,
    )
    best, curve = float("-inf"), []
    running: list[int] = []
    while True:
        while len(running) < SLOTS and (number := search.next_trial(lambda _: None)) is not None:
            running.append(number)
        if not running:
            return curve
        for number in list(running):
            trial = study.trial(number)
            epochs = task.trials[tuple(trial.params[name] for name in PARAMETERS)]
            done = len(trial.epochs) + 1
            verdict = search.take(number, TrialReport(epochs=epochs[:done], finished=done == trial.schedule))
            best = max(best, epochs[done - 1]["score"])
            curve.append(best)
            if verdict.state != "running":
                search.put_down(number)
                running.remove(number)


def experience(others: Sequence[Recorded], space: Space) -> list[Mapping[str, Any]]:
    """The first suggestions that the whole grids of other tasks give."""
    return list(portfolio([_records(other) for other in others], space))


def _records(task: Recorded) -> list[TrialRecord]:
    return [
        TrialRecord(
            number=number,
            state="complete",
            params=dict(zip(PARAMETERS, key, strict=True)),
            epochs=tuple(epochs),
            reason=None,
            seed=0,
            facts={},
            started=None,
            ended=None,
        )
        for number, (key, epochs) in enumerate(task.trials.items())
    ]


def _replay(
    record: Mapping[str, Mapping[int, Recorded]], asked: tuple[str, Side, int]
) -> tuple[str, str, float | None, list[float]]:
    """Of one search: task, side, the share of the grid's epochs to within 0.5 points, regret at `SHARES`."""
    name, side, seed = asked
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    grids = record[name]
    task = grids[sorted(grids)[seed % len(grids)]]
    others = [next(iter(seeds.values())) for other, seeds in record.items() if other != name]
    first = experience(others, task.space()) if side.experienced else []
    curve = replay(task, side, seed, first)
    near = next((count for count, score in enumerate(curve, 1) if score >= task.best - WITHIN), None)
    spread = task.best - task.worst
    regrets = [
        (task.best - curve[min(len(curve), max(1, round(share * task.cost))) - 1]) / spread
        for share in SHARES
    ]
    return name, side.name, None if near is None else near / task.cost, regrets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--record", type=Path, default=OUT)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--out", type=Path, help="write the tables there, as markdown")
    options = parser.parse_args()
    record = read_record(options.record)
    asked = [(task, side, seed) for task in record for side in SIDES for seed in range(options.seeds)]
    with Pool() as pool:
        found = pool.map(functools.partial(_replay, record), asked, chunksize=10)
    near: dict[tuple[str, str], list[float]] = defaultdict(list)
    regrets: dict[str, list[list[float]]] = defaultdict(list)
    for task, side, share, regret in found:
        near[side, task].append(float("inf") if share is None else share)
        regrets[side].append(regret)
    report = Report("Search quality: replays of a recorded grid")
    first = next(iter(record.values()))
    report.facts["Record"] = (
        f"{len(record)} tasks, {len(next(iter(first.values())).trials)} configurations, "
        f"{next(iter(first.values())).cost} epochs a grid, {len(first)} training seed(s); "
        f"{options.seeds} searches of each side on each task"
    )
    report.add_table(
        ["mean normalised regret at this share of the grid's epochs", *(f"{share:.0%}" for share in SHARES)],
        [
            [side.name, *(f"{mean(column):.3f}" for column in zip(*regrets[side.name], strict=True))]
            for side in SIDES
        ],
    )
    report.add_table(
        ["median share of the grid's epochs to within 0.5 points of its best", *record],
        [[side.name, *(_share(near[side.name, task]) for task in record)] for side in SIDES],
    )
    report.notes = [
        "Normalised regret: what the best epoch so far lacks to the grid's best; 1 is the best epoch of the "
        "grid's worst configuration; a mean over tasks and searches. A search that has ended keeps its last.",
        "In brackets: searches that never came within 0.5 points.",
        "With experience: the first suggestions come from the whole grids of the other tasks.",
    ]
    report.show(options.out)


def _share(shares: Sequence[float]) -> str:
    middle = median(shares)
    never = sum(share == float("inf") for share in shares)
    shown = "never" if middle == float("inf") else f"{middle:.0%}"
    return f"{shown} ({never})" if never else shown


if __name__ == "__main__":
    main()
