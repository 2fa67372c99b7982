"""How sure a score is: intervals by the bootstrap over rows (Efron 1979), and over several seeds.

Other texts of the same kind would give other scores. How far they spread is estimated by drawing as many rows
as there are, with replacement, and scoring those, many times.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.encoded import EncodedTask

Interval = tuple[float, float]  # the lowest and the highest value
Rows = NDArray[np.int64]
Scorer = Callable[[Rows], float]  # the score of some rows, a row as often as it is named

LEVEL = 0.95
SAMPLES = 1000
COMPARED_SAMPLES = 500  # of several candidates at once


def scorer(task: EncodedTask, outputs: NDArray[np.float64], targets: Any) -> Scorer:
    """The scorer of a model's outputs (rows, outputs): raw, by the metric that chooses."""
    scored = replace(task, metrics=(task.metric,))

    def score(rows: Rows) -> float:
        return scored.score(outputs[rows], targets[rows])[task.metric]

    return score


def score_interval(runs: Sequence[Scorer], rows: int, *, beside: Scorer | None = None) -> Interval | None:
    """The 95 % interval of the mean score of some runs, or of its gain over another model on the same rows.

    The percentile interval; a function of the scores alone. Runs with several seeds are drawn as rows are, so
    that their spread is part of it.

    Args:
        runs: of each run of a configuration the scorer of its outputs.
        rows: how many rows there are to draw from, 1 or more.
        beside: of the other model; the same rows are drawn for both.

    Returns:
        None where fewer than half of the samples have a score: it is not defined for them, as a score of
        probabilities is not of rows of one class.
    """
    rng = np.random.default_rng(0)
    values = []
    for _ in range(SAMPLES):
        drawn = rng.integers(0, rows, rows)
        chosen = rng.integers(0, len(runs), len(runs))
        value = np.mean([_defined(runs[run], drawn) for run in chosen])
        values.append(value - (0.0 if beside is None else _defined(beside, drawn)))
    defined = np.array([value for value in values if np.isfinite(value)])
    if len(defined) < SAMPLES / 2:
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def contenders(candidates: Sequence[Sequence[Scorer]], rows: int, *, better: str = "higher") -> list[bool]:
    """Of each candidate whether it cannot be told apart from the best one.

    Gupta 1965, "On Some Multiple Decision (Selection and Ranking) Rules": a subset that holds the truly best
    with a probability of 95 %, however many are compared and although the one in front was chosen for its
    score. A candidate is left out where one of the others is further ahead of it than the luckiest of them
    would be by chance alone; how far that is, is estimated by drawing rows, the same for all, and runs where
    a candidate has several. Differences are in units of their own standard deviation, as two models that err
    on the same rows are compared more finely.

    Args:
        candidates: of each the scorers of its runs, one or more; their mean is what counts.
        rows: how many rows there are to draw from, 1 or more.
        better: "higher" or "lower", as `Metric.better`.

    Returns:
        True for all where the score is not defined for half of the samples.
    """
    sign = -1.0 if better == "lower" else 1.0
    whole = np.arange(rows)
    scores = sign * np.array([np.mean([_defined(run, whole) for run in runs]) for runs in candidates])
    rng = np.random.default_rng(0)
    samples = np.empty((COMPARED_SAMPLES, len(candidates)))
    for sample in samples:
        drawn = rng.integers(0, rows, rows)
        for number, runs in enumerate(candidates):
            chosen = rng.integers(0, len(runs), len(runs))
            values = {run: _defined(runs[run], drawn) for run in set(chosen.tolist())}
            sample[number] = sign * np.mean([values[run] for run in chosen.tolist()])
    samples = samples[np.isfinite(samples).all(1)]
    if len(samples) < COMPARED_SAMPLES / 2 or not np.isfinite(scores).all():
        return [True] * len(candidates)
    return [_may_be_best(number, scores, samples) for number in range(len(candidates))]


def _may_be_best(number: int, scores: NDArray[np.float64], samples: NDArray[np.float64]) -> bool:
    """Whether no other candidate is further ahead of this one than chance explains.

    Args:
        scores: of the candidates, (k,).
        samples: of them, (samples, k).
    """
    ahead = np.delete(scores - scores[number], number)  # (k - 1,)
    drawn = np.delete(samples - samples[:, [number]], number, axis=1)
    deviation = drawn.std(0)
    if (ahead[deviation == 0] > 0).any():  # better by the same in every sample
        return False
    ahead, drawn, deviation = (values[..., deviation > 0] for values in (ahead, drawn, deviation))
    if not len(ahead):
        return True
    by_chance = ((drawn - ahead) / deviation).max(1)
    return bool((ahead / deviation).max() <= np.quantile(by_chance, LEVEL))


def _defined(scorer: Scorer, drawn: Rows) -> float:
    try:
        return scorer(drawn)
    except ValueError:
        return float("nan")
