"""The statistics of a report: what each configuration scored over its seeds, and what parameters buy.

Pure: nothing here reads a study or draws. Scores are as the record has them, unless points are named.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pipelines.method import METHODS
from pipelines.metrics import METRICS
from pipelines.tasks.kind import Kind, kind_of

MIN_TASKS = 3  # fewer have no percentiles worth a band
MANY_VALUES = 12  # up to so many different values of a parameter each is a point of its own


class Unit(NamedTuple):
    """How a report shows a metric's values: times ``factor``, named and to so many decimals."""

    name: str
    factor: float
    decimals: int

    def show(self, value: float) -> str:
        return f"{self.factor * value:.{self.decimals}f}"

    @property
    def column(self) -> str:
        """What a csv file calls a column of it."""
        return self.name.replace(" ", "_")


POINTS = Unit("points of 100", 100, 1)


def unit_of(metric: str) -> Unit:
    """Points of 100 for a metric between -1 and 1, as the paper has them; any other is shown as it is."""
    low, high = METRICS[metric].range
    return POINTS if low >= -1 and high <= 1 else Unit(metric, 1, 4)


class Mean(NamedTuple):
    """A mean over seeds; ``sem`` is its standard error, None for one seed."""

    value: float
    sem: float | None
    n: int


@dataclass(frozen=True)
class Run:
    """One training that ended well: a configuration with one seed.

    Attributes:
        validation: as the metric has it; of some metrics less is better.
        score: the same, signed: higher is better.
        test: its score on the test set; None where it was not read, as for all but winners.
        source: where it is recorded, as `job/task/method trial 3`.
    """

    params: Mapping[str, Any]
    seed: int
    validation: float
    score: float
    trained: int
    test: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Configuration:
    """All runs of the same parameters, one for each seed."""

    params: Mapping[str, Any]
    runs: tuple[Run, ...]

    @property
    def trained(self) -> int:
        """Trained parameters, the head's included."""
        return self.runs[0].trained

    @property
    def validation(self) -> Mean:
        return mean_of([run.validation for run in self.runs])

    @property
    def score(self) -> float:
        """Mean signed validation score."""
        return mean_of([run.score for run in self.runs]).value

    @property
    def test(self) -> Mean | None:
        """Over the seeds whose test score was read."""
        known = [run.test for run in self.runs if run.test is not None]
        return mean_of(known) if known else None


class Point(NamedTuple):
    """The best configuration at one level: an adapter size, a number of layers, a learning rate."""

    level: float
    best: Configuration


class Band(NamedTuple):
    """Percentiles over tasks at one level; ``trained`` is the median over the same tasks."""

    level: float
    trained: float
    low: float  # 20th
    middle: float  # 50th
    high: float  # 80th
    tasks: int


@dataclass(frozen=True)
class MethodRuns:
    """What the record has of one task with one method.

    Attributes:
        winner: the configuration that selection picked.
        winning_run: the run of it that won: its bundle was written.
        backbone: parameters of the frozen encoder.
    """

    task: str
    method: str
    metric: str
    kind: str
    backbone: int
    configurations: tuple[Configuration, ...]
    winner: Configuration
    winning_run: Run
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rules(self) -> Kind:
        """What depends on the task's kind. Raises InputError for one that is not registered here."""
        return kind_of(self.kind)

    @property
    def unit(self) -> Unit:
        """How its scores are shown."""
        return unit_of(self.metric)

    @property
    def trained_fraction(self) -> float:
        """Trained parameters as a share of the encoder's."""
        return self.winner.trained / self.backbone


def counted(n: int, noun: str) -> str:
    """1 task, 2 tasks, 1,000 tasks; 1 study, 2 studies."""
    if n == 1:
        return f"1 {noun}"
    return f"{n:,} {noun[:-1]}ies" if noun.endswith("y") else f"{n:,} {noun}s"


def mean_of(values: Sequence[float]) -> Mean:
    """Mean, and its standard error with n - 1 degrees of freedom. Raises ValueError for no values."""
    if not values:
        raise ValueError("the mean of nothing")
    n = len(values)
    sem = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None
    return Mean(float(np.mean(values)), sem, n)


def configurations_of(runs: Iterable[Run]) -> tuple[Configuration, ...]:
    """Runs of the same parameters together, in the order in which they first come.

    A seed counts once: of two runs with the same parameters and seed the first is kept, unless only the
    other has a test score.
    """
    grouped: dict[frozenset[tuple[str, Any]], dict[int, Run]] = {}
    for run in runs:
        seeds = grouped.setdefault(frozenset(run.params.items()), {})
        known = seeds.get(run.seed)
        if known is None or (known.test is None and run.test is not None):
            seeds[run.seed] = run
    groups = [tuple(seeds.values()) for seeds in grouped.values()]
    return tuple(Configuration(group[0].params, group) for group in groups)


def best_of(configurations: Iterable[Configuration]) -> Configuration:
    """The best mean on validation among those with the most seeds; then fewer trained parameters.

    One lucky seed does not beat a mean over five: where some were re-run, they alone are compared.
    Raises ValueError for none.
    """
    return max(configurations, key=lambda one: (len(one.runs), one.score, -one.trained))


def levels_of(values: Iterable[float], *, base: float) -> dict[float, float]:
    """The level of each value: the value itself, or the nearest power of ``base`` where there are many."""
    distinct = set(values)
    if len(distinct) <= MANY_VALUES:
        return {value: value for value in distinct}
    return {value: base ** round(math.log(value, base)) for value in distinct}


def frontier(
    configurations: Iterable[Configuration], level: Callable[[Configuration], float]
) -> tuple[Point, ...]:
    """The best configuration at each level, levels rising."""
    grouped: dict[float, list[Configuration]] = {}
    for one in configurations:
        grouped.setdefault(level(one), []).append(one)
    return tuple(Point(value, best_of(grouped[value])) for value in sorted(grouped))


def bands(curves: Mapping[str, Sequence[Point]], baselines: Mapping[str, float]) -> tuple[Band, ...]:
    """20th, 50th and 80th percentiles over tasks of score minus baseline, both signed, level by level.

    Args:
        curves: by task; tasks without a baseline are an error (KeyError).

    Levels that fewer than MIN_TASKS tasks have are left out.
    """
    grouped: dict[float, list[tuple[float, int]]] = {}
    for task, points in curves.items():
        for point in points:
            value = point.best.score - baselines[task]
            grouped.setdefault(point.level, []).append((value, point.best.trained))
    found = []
    for level, entries in sorted(grouped.items()):
        if len(entries) >= MIN_TASKS:
            low, middle, high = np.percentile([score for score, _ in entries], (20, 50, 80))
            trained = float(np.median([count for _, count in entries]))
            found.append(Band(level, trained, float(low), float(middle), float(high), len(entries)))
    return tuple(found)


def total_encoders(method: str, found: Sequence[MethodRuns]) -> float:
    """Parameters of all tasks together, in encoders: 1.3 means 1.3 times the encoder's own.

    Whatever keeps the encoder needs it once, and what is trained for each task; full fine-tuning needs an
    encoder per task (Houlsby et al. 2019, Tables 1 and 2). Raises ValueError for no tasks.
    """
    if not found:
        raise ValueError("no tasks")
    if method in METHODS and METHODS[method].keeps == "encoders":
        return float(len(found))
    return 1 + sum(one.trained_fraction for one in found)


def trained_share(found: Sequence[MethodRuns]) -> float:
    """Parameters trained for a task, as a share of the encoder's: the mean over tasks."""
    return float(np.mean([one.trained_fraction for one in found]))
