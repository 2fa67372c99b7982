"""Successive halving that pauses and promotes: who goes on from a rung. Pure: functions of a study's trials.

Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (ASHA), with changes for the small
budgets of adapter searches: trials are compared only with those of the same schedule; half of them go on,
whatever the distance of the rungs, since few are compared and their order after an epoch is uncertain; and
above the first rung the best one goes on however few have come so far, so that a search has a fully trained
trial early.
"""

import math
from collections.abc import Collection, Sequence

from search.record import Trial

FIRST_PEERS = 3  # so many have to come to the first rung before one goes on


def rungs(epochs: int, factor: int) -> tuple[int, ...]:
    """The epochs after which a trial waits: 1, factor, factor² … while at least as much is left as is spent.

    Args:
        epochs: the length of the trial's schedule.
        factor: from a rung to the next, 2 or more.
    """
    reached, rung = [], 1
    while 2 * rung <= epochs:
        reached.append(rung)
        rung *= factor
    return tuple(reached)


def score_at(trial: Trial, rung: int) -> float:
    """A trial's score at a rung: its best up to there."""
    return max(epoch.score for epoch in trial.epochs[:rung])


def loss_at(trial: Trial, rung: int) -> float:
    """A trial's validation loss at a rung: its least up to there; infinite where none was recorded."""
    losses = [epoch.validation_loss for epoch in trial.epochs[:rung]]
    return min((loss for loss in losses if loss is not None), default=math.inf)


def peers(trials: Sequence[Trial], schedule: int, rung: int, *, pareto: bool = False) -> list[Trial]:
    """The trials that are compared at a rung, best first: those of one schedule that have come so far.

    After an epoch many a trial still answers with the most frequent class, and all of these have one score:
    their validation loss tells them apart. Failed trials have no score, and confirmations are no part of the
    search.

    Args:
        pareto: sort by fronts first: whoever no other beats in both score and size, then the next front.
    """
    there = [
        trial
        for trial in trials
        if trial.schedule == schedule
        and len(trial.epochs) >= rung
        and trial.state != "failed"
        and trial.searched
    ]
    there.sort(key=lambda trial: (-score_at(trial, rung), loss_at(trial, rung), trial.number))
    if not pareto:
        return there
    numbers = fronts([(score_at(trial, rung), trial.size) for trial in there])
    return [trial for _, trial in sorted(zip(numbers, there, strict=True), key=lambda pair: pair[0])]


def fronts(points: Sequence[tuple[float, int]]) -> list[int]:
    """For each (score, size) the number of its front: 0 where no other has a better score and is no larger,
    or is smaller and has no worse score; then the same among the rest.
    """
    numbers = [-1] * len(points)
    left = set(range(len(points)))
    front = 0
    while left:
        best = {at for at in left if not any(_beats(points[other], points[at]) for other in left)}
        for at in best:
            numbers[at] = front
        left -= best
        front += 1
    return numbers


def _beats(one: tuple[float, int], other: tuple[float, int]) -> bool:
    return one != other and one[0] >= other[0] and one[1] <= other[1]


def next_promotion(
    trials: Sequence[Trial],
    *,
    growing: bool,
    pareto: bool = False,
    busy: Collection[int] = (),
) -> Trial | None:
    """The paused trial that goes on next, or None.

    Of the peers at a rung the better half goes on, rounded up. At the first rung no one goes on before there
    are `FIRST_PEERS`, as long as there may be more. The furthest trial is taken first, then the one
    whose rest is shortest, then the better one.

    Args:
        trials: all of a study's trials, in any order.
        growing: whether new trials may still start.
        pareto: see `peers`.
        busy: numbers of trials that are being put down at this moment; their turn comes when they are.
    """
    paused = [trial for trial in trials if trial.state == "paused"]
    ready: list[tuple[int, int, int, Trial]] = []
    for schedule, rung in {(trial.schedule, trial.rung or 0) for trial in paused}:
        there = peers(trials, schedule, rung, pareto=pareto)
        if rung == 1 and len(there) < FIRST_PEERS and (growing or _coming(trials, schedule)):
            continue
        for rank, trial in enumerate(there[: _quota(len(there))]):
            if trial.state == "paused" and trial.rung == rung and trial.number not in busy:
                ready.append((-rung, schedule, rank, trial))
    return min(ready, key=lambda entry: entry[:3], default=(None,))[-1]


def describe_ends(trials: Sequence[Trial], *, pareto: bool = False) -> dict[int, str]:
    """Why those that still wait at the end were not promoted, by number."""
    paused = [trial for trial in trials if trial.state == "paused"]
    reasons: dict[int, str] = {}
    for schedule, rung in {(trial.schedule, trial.rung or 0) for trial in paused}:
        there = peers(trials, schedule, rung, pareto=pareto)
        for rank, trial in enumerate(there, start=1):
            if trial.state == "paused" and trial.rung == rung:
                reasons[trial.number] = (
                    f"stopped at rung {rung}: rank {rank} of {len(there)} trials of {schedule} epochs, "
                    f"of which {_quota(len(there))} went on"
                )
    return reasons


def _quota(count: int) -> int:
    """How many of so many peers go on."""
    return -(-count // 2)


def _coming(trials: Sequence[Trial], schedule: int) -> bool:
    """Whether a trial of a schedule is on its way to its first rung."""
    return any(t.state == "running" and t.schedule == schedule and not t.epochs for t in trials)
