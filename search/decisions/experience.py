"""First suggestions for a new task from those that were searched before. Pure, but for finding the studies.

Tasks arrive in a stream and share a backbone; what was best for earlier ones is often near the best for the
next. A small portfolio of configurations is chosen greedily, so that on each earlier task its best member
comes as near as possible to the best known (Feurer et al. 2022, Auto-sklearn 2.0, §3: portfolios by greedy
submodular selection). Deviation: tasks need not have tried the same configurations; what one would have given
is estimated from its neighbours in the space.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipelines.method import find_method
from search.decisions.halving import peers, score_at
from search.errors import UserError
from search.job.job import SearchJob
from search.study import Record, Study, TrialRecord
from spaces import Choice, Range, Space

PORTFOLIO = 3  # suggestions: as many as the first rung compares
_NEAR = 0.2  # of the unit cube: how far a configuration speaks for others
_DOUBT = 0.1  # weight of the assumption that an unknown configuration is bad

Params = Mapping[str, Any]


class Experience(NamedTuple):
    """What a study begins with.

    Attributes:
        studies: names of those that it learns from.
        portfolio: its first configurations.
    """

    studies: list[str]
    portfolio: list[Params]


def gather(
    record: Record, job: SearchJob, method: str, *, fingerprint: str, vectors: Mapping[str, str] | None = None
) -> Experience:
    """What a job begins with for a method: the studies that it learns from, and its first configurations.

    Args:
        fingerprint: the backbone's.
        vectors: the fingerprints of the job's word vectors.

    Raises:
        UserError: the job names another that is not there, or has no such study.
    """
    space = job.space_for(method)
    earlier = find_earlier(
        record, job.search.experience, job=job.name, method=method, fingerprint=fingerprint, space=space
    )
    if find_method(method).reads_vectors:  # a name in the space must stand for the same vectors
        earlier = [one for one in earlier if one.attributes.get("vectors", {}) == (vectors or {})]
    first = portfolio([study.trials() for study in earlier], space)
    return Experience([study.name for study in earlier], first)


def find_earlier(
    record: Record, wanted: str | Sequence[str], *, job: str, method: str, fingerprint: str, space: Space
) -> list[Study]:
    """The completed studies of other jobs with the same backbone, method and space, by name.

    Args:
        wanted: `auto`, `none`, or names of jobs.
        job: the job that asks; its own studies are none of its experience.
        fingerprint: the backbone's.

    Raises:
        UserError: a named job is not there, or has no such study.
    """
    if wanted == "none":
        return []
    names = record.jobs() if isinstance(wanted, str) else wanted
    found: list[Study] = []
    for name in names:
        studies = record.studies(name) if name != job else ()
        fit = [one for one in studies if _fits(one, method, fingerprint, space)]
        if not fit and not isinstance(wanted, str):
            raise UserError(
                f"search.experience names the job {name!r}, which has no finished study with this backbone, "
                f"the method {method} and the same space. Known jobs: {', '.join(record.jobs()) or 'none'}."
            )
        found += fit
    return sorted(found, key=lambda study: study.name)


def _fits(study: Study, method: str, fingerprint: str, space: Space) -> bool:
    attributes = study.attributes
    return (
        study.method == method
        and "winner" in attributes
        and attributes.get("backbone_fingerprint") == fingerprint
        and attributes["content"]["space"].get(method) == space.to_dict()
    )


def portfolio(earlier: Sequence[Sequence[TrialRecord]], space: Space, size: int = PORTFOLIO) -> list[Params]:
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


def regrets_of(trials: Sequence[TrialRecord]) -> list[tuple[Params, float]]:
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
