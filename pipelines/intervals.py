"""How sure a score is: intervals by the bootstrap over rows (Efron 1979), and over several seeds.

Other texts of the same kind would give other scores. How far they spread is estimated by drawing as many rows
as there are, with replacement, and scoring those, many times.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]  # the lowest and the highest value
Rows = NDArray[np.int64]
Scorer = Callable[[Rows], float]  # the score of some rows, a row as often as it is named

LEVEL = 0.95
SAMPLES = 1000


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


def _defined(scorer: Scorer, drawn: Rows) -> float:
    try:
        return scorer(drawn)
    except ValueError:
        return float("nan")
