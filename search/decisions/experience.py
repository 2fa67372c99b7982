"""First suggestions for a new task from the trials of those that were searched before. Pure.

Tasks arrive in a stream and share a backbone; what was best for earlier ones is often near the best for the
next. A small portfolio of configurations is chosen greedily, so that on each earlier task its best member
comes as near as possible to the best known (Feurer et al. 2022, Auto-sklearn 2.0, §3: portfolios by greedy
submodular selection). Deviation: tasks need not have tried the same configurations; what one would have given
is estimated from its neighbours in the space.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from search.decisions.halving import peers, score_at
from search.record import Params, Trial
from spaces import Choice, Range, Space

PORTFOLIO = 3  # suggestions: as many as the first rung compares
_NEAR = 0.2  # of the unit cube: how far a configuration speaks for others
_DOUBT = 0.1  # weight of the assumption that an unknown configuration is bad


def portfolio(earlier: Sequence[Sequence[Trial]], space: Space, size: int = PORTFOLIO) -> list[Params]:
    """The configurations to begin with, the generally best first.

    Args:
        earlier: the trials of each earlier task.
        size: at most so many.
    """
    tasks = [regrets for regrets in map(regrets_of, earlier) if regrets]
    candidates = list({_key(params): params for task in tasks for params, _ in task}.values())
    candidates = [params for params in candidates if space.contains(params)]
    expected = {_key(c): [_expect(c, task, space) for task in tasks] for c in candidates}
    chosen: list[Params] = []
    reached = [1.0] * len(tasks)
    while len(chosen) < size and len(chosen) < len(candidates):
        left = [c for c in candidates if c not in chosen]
        best = min(left, key=lambda c: (round(math.fsum(map(min, reached, expected[_key(c)])), 9), _key(c)))
        after = list(map(min, reached, expected[_key(best)]))
        if chosen and math.fsum(reached) - math.fsum(after) < 1e-6:
            break
        chosen.append(best)
        reached = after
    return chosen


def regrets_of(trials: Sequence[Trial]) -> list[tuple[Params, float]]:
    """How far each configuration of a task stayed behind: 0 for the best known, 1 for clearly worse.

    A trial is compared with those of the same schedule after as many epochs as it has; what the best of that
    schedule lacks to the task's best is added. Twice the median regret counts as 1: tasks differ in scale.
    """
    scored = [t for t in trials if t.confirms is None and t.score is not None]
    if not scored:
        return []
    best = max(t.score for t in scored if t.score is not None)
    raw: list[tuple[Params, float]] = []
    for trial in scored:
        stage = len(trial.epochs)
        gap = score_at(peers(trials, trial.schedule, stage)[0], stage) - score_at(trial, stage)
        same = [t.score for t in scored if t.schedule == trial.schedule and t.score is not None]
        raw.append((trial.params, gap + best - max(same)))
    positive = [regret for _, regret in raw if regret > 0]
    scale = 2 * statistics.median(positive) if positive else 1.0
    return [(params, min(1.0, regret / scale)) for params, regret in raw]


def _expect(params: Params, task: Sequence[tuple[Params, float]], space: Space) -> float:
    """The regret to expect of a configuration on a task: its neighbours' with the same schedule."""
    weight, total = _DOUBT, _DOUBT
    for other, regret in task:
        if other.get("epochs") == params.get("epochs"):  # both are of one space
            near = math.exp(-((_distance(params, other, space) / _NEAR) ** 2))
            weight += near
            total += near * regret
    return total / weight


def _distance(one: Params, other: Params, space: Space) -> float:
    """In the unit cube of a space; a parameter that only one of them has is half its edge."""
    squares = 0.0
    for name, parameter in space.parameters:
        if (name in one) != (name in other):
            squares += 0.25
        elif name in one:
            squares += (_position(parameter, one[name]) - _position(parameter, other[name])) ** 2
    return math.sqrt(squares)


def _position(parameter: Choice | Range, value: Any) -> float:
    if isinstance(parameter, Choice):
        return parameter.values.index(value) / max(1, len(parameter.values) - 1)
    low, high, at = float(parameter.low), float(parameter.high), float(value)
    if parameter.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def _key(params: Params) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, repr(value)) for name, value in params.items()))
