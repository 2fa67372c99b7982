"""Searches by adaptune itself, replayed on a record of real trials: only the training is looked up."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
from sqlalchemy.pool import StaticPool

from pipelines.results import EpochResult
from search.agenda import Agenda
from search.decisions.rules import Rules
from search.job.parts import SearchPart
from search.record import Trial
from search.study import Study
from search.workers.reports import TrialReport
from spaces import Space

SLOTS = 2
PARAMETERS = ("adapter_size", "learning_rate", "epochs", "first_layer", "dropout")
TEST = "test"  # in an epoch's scores, of which no search reads anything
DEFAULT = SearchPart()

Key = tuple[Any, ...]
Trials = Mapping[Key, list[EpochResult]]  # epochs, by configuration


@dataclass(frozen=True)
class Recorded:
    """A task's grid.

    Attributes:
        parameters: that it searches.
        trials: by their values: each epoch, first epoch first.
    """

    parameters: tuple[str, ...]
    trials: Trials

    @property
    def best(self) -> float:
        return max(epoch.score for epochs in self.trials.values() for epoch in epochs)

    @property
    def worst(self) -> float:
        """The score of the worst configuration."""
        return min(max(epoch.score for epoch in epochs) for epochs in self.trials.values())

    @property
    def cost(self) -> int:
        """Epochs of the whole grid."""
        return sum(len(epochs) for epochs in self.trials.values())

    @property
    def chosen_test(self) -> float | None:
        """The test score of the grid's best epoch by validation, a mean where several are; None: none is
        recorded.
        """
        tests = [
            epoch.scores.get(TEST)
            for epochs in self.trials.values()
            for epoch in epochs
            if epoch.score == self.best
        ]
        known = [test for test in tests if test is not None]
        return sum(known) / len(known) if known else None

    def space(self) -> Space:
        values = zip(*self.trials, strict=True)
        return Space.parse(
            {name: sorted(set(found)) for name, found in zip(self.parameters, values, strict=True)}
        )

    def as_trials(self) -> list[Trial]:
        """The whole grid as a search would have recorded it."""
        return [
            Trial(
                number=number,
                state="complete",
                params=dict(zip(self.parameters, key, strict=True)),
                epochs=tuple(epochs),
            )
            for number, (key, epochs) in enumerate(self.trials.items())
        ]


@dataclass(frozen=True)
class Spent:
    """Where a search stands after an epoch.

    Attributes:
        score: the best one so far.
        test: the test score of the epoch that has it; nan: none is recorded.
    """

    score: float
    test: float


def read_record(path: Path) -> dict[str, dict[int, Recorded]]:
    """The recorded grids by task and training seed: of each the largest that is whole."""
    table = pq.read_table(path)
    parameters = tuple(name for name in PARAMETERS if name in table.column_names)
    found: dict[str, dict[int, dict[Key, list[EpochResult]]]] = defaultdict(lambda: defaultdict(dict))
    for row in sorted(table.to_pylist(), key=lambda row: row["epoch"]):
        key = tuple(row[name] for name in parameters)
        test = row.get("test_score")
        epoch = EpochResult(
            row["epoch"],
            train_loss=math.nan,  # nothing in a search looks at it
            scores={} if test is None else {TEST: test},
            score=row["score"] if "score" in row else row["validation_score"],
            seconds=row.get("seconds", 1.0),
            finished_at=0.0,
            validation_loss=row["validation_loss"],
        )
        found[row["task"]][row["seed"]].setdefault(key, []).append(epoch)
    return {
        task: {seed: Recorded(parameters, whole_grid(trials)) for seed, trials in sorted(seeds.items())}
        for task, seeds in sorted(found.items())
    }


def whole_grid(trials: Trials) -> Trials:
    """The largest grid of which every configuration is there: while some are missing, the value that has the
    fewest of its own goes.
    """
    while trials:
        axes = [sorted(set(values)) for values in zip(*trials, strict=True)]
        if math.prod(map(len, axes)) == len(trials):
            return {key: trials[key] for key in product(*axes)}
        counts = {
            (axis, value): (
                sum(key[axis] == value for key in trials) * len(values) / math.prod(map(len, axes)),
                -axis,
                value,
            )
            for axis, values in enumerate(axes)
            for value in values
            if len(values) > 1
        }
        axis, value = min(counts, key=lambda one: counts[one])
        trials = {key: epochs for key, epochs in trials.items() if key[axis] != value}
    return {}


def replay(
    task: Recorded, *, sampler: str, scheduler: str, seed: int, first: Sequence[Mapping[str, Any]]
) -> list[Spent]:
    """A search with its study in memory; two trials run beside each other, an epoch of each in turn."""
    storage = _memory()
    name = f"replay-{len(storage.get_all_studies())}/task/adapter"
    optuna.create_study(study_name=name, storage=storage, direction="maximize")
    study = Study(storage, name)
    study.hold()
    agenda = Agenda(
        study,
        task.space(),
        sampler=sampler,
        seed=seed,
        trials=len(task.trials),
        rules=Rules(scheduler, DEFAULT.reduction),
        first=first,
    )
    best, curve = Spent(float("-inf"), math.nan), []
    running: list[int] = []
    while True:
        while len(running) < SLOTS and (number := agenda.next_trial(lambda *_: None)) is not None:
            running.append(number)
        if not running:
            return curve
        for number in list(running):
            trial = study.trial(number)
            epochs = task.trials[tuple(trial.params[name] for name in task.parameters)]
            done = len(trial.epochs) + 1
            verdict = agenda.take(
                number, TrialReport(epochs=tuple(epochs[:done]), finished=done == trial.schedule)
            )
            last = epochs[done - 1]
            if last.score > best.score:
                best = Spent(last.score, last.scores.get(TEST, math.nan))
            curve.append(best)
            if verdict.state != "running":
                agenda.put_down(number)
                running.remove(number)


@cache
def _memory() -> optuna.storages.RDBStorage:
    """A database in this process' memory: to make its tables takes as long as some replays."""
    return optuna.storages.RDBStorage("sqlite://", engine_kwargs={"poolclass": StaticPool})
