"""Re-running the best configurations with further seeds. Pure.

Either as many of them as a job asks for, with as many seeds, as the paper did (§3.2): `Confirm`. Or those
that cannot be told apart by their predictions, with as few seeds as decide: `Leaders`.
"""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from search.decisions.selection import pick_best, rank
from search.record import Leaders, Trial

MOST_LEADERS = 8  # configurations of a search that are compared


@dataclass(frozen=True)
class Confirm:
    """How many of the best configurations are re-run, and with how many seeds each, the search's included."""

    top: int = 1
    seeds: int = 5


@dataclass(frozen=True)
class Spread:
    """Mean and standard error over seeds; the error is None for a single one."""

    mean: float
    sem: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
        return cls(statistics.fmean(values), error)

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.sem is None else f" ± {self.sem:.4f}")


def missing_runs(trials: Sequence[Trial], confirm: Confirm) -> list[tuple[Trial, int]]:
    """The runs that are still to be started: each a trial of the search and the seed it is repeated with.

    A seed that has run to its end is used as it is. A trial that was stopped early has not: its own seed is
    run again. A confirmation that failed is not repeated.
    """
    missing = []
    for trial in rank([trial for trial in trials if trial.confirms is None])[: confirm.top]:
        known = {other.seed for other in trials if other.confirms == trial.number}
        if trial.state == "complete":
            known.add(trial.seed)
        missing += [
            (trial, seed) for seed in range(trial.seed, trial.seed + confirm.seeds) if seed not in known
        ]
    return missing


def runs_of(trials: Sequence[Trial], trial: Trial) -> list[Trial]:
    """The complete runs of a trial's configuration, one for each seed; the trial itself is among them."""
    first = trial.number if trial.confirms is None else trial.confirms
    runs = {
        run.seed: run for run in trials if first in (run.number, run.confirms) and run.state == "complete"
    }
    return [run for _, run in sorted({**runs, trial.seed: trial}.items())]


def leading(trials: Sequence[Trial]) -> list[Trial]:
    """The search's own trials that are compared when it has ended, best first."""
    return rank([trial for trial in trials if trial.searched])[:MOST_LEADERS]


def epochs_to_spend(trials: Sequence[Trial], share: float) -> int:
    """The epochs that leaders may be trained again: a share of those that the search has trained."""
    return math.floor(share * sum(len(trial.epochs) for trial in trials if trial.searched))


def next_round(trials: Sequence[Trial], leaders: Leaders) -> tuple[list[Trial], list[tuple[Trial, int]]]:
    """Where confirming leaders stands: those that are left, and their runs that are still to be started.

    Sequential halving (Karnin, Koren and Somekh 2013, "Almost Optimal Exploration in Multi-Armed Bandits"):
    each round is a seed more for each, after which the half with the better means stays, rounded up. Of two
    it ends with the second run of each. Where what is left to be spent does not do for all, the first of them
    go on, and where it does not do for two, it ends. A run that failed takes its configuration out, unless
    all did.
    """
    by_number = {trial.number: trial for trial in trials}
    left = [by_number[number] for number in leaders.trials]
    epochs = leaders.epochs
    for further in itertools.count(1):
        paid = _affordable(left, epochs)
        if len(paid) < 2:
            return left, []
        runs = {trial.number: _run_again(trials, trial, trial.seed + further) for trial in paid}
        missing = [(trial, trial.seed + further) for trial in paid if runs[trial.number] is None]
        if missing or any(run is not None and run.state in ("running", "paused") for run in runs.values()):
            return paid, missing
        ended = {number for number, run in runs.items() if run is not None and run.state == "complete"}
        if not ended:
            return paid, []
        epochs -= sum(trial.schedule for trial in paid)
        # Without the runs of later rounds: who has dropped out does not come back by them.
        known = [
            run
            for run in trials
            if run.confirms is None or run.seed <= by_number[run.confirms].seed + further
        ]
        left = _by_mean(known, [trial for trial in paid if trial.number in ended])
        left = left[: math.ceil(len(left) / 2)]
    raise AssertionError("unreachable")


def mean_score(trials: Sequence[Trial], trial: Trial) -> float:
    """The mean over the runs of a trial's configuration of their scores (signed)."""
    return statistics.fmean(run.score for run in runs_of(trials, trial) if run.score is not None)


def pick_winner(trials: Sequence[Trial], leaders: Leaders | None) -> Trial | None:
    """The winner: of the leaders with the best mean the run that is nearest to it, or the best one.

    Without leaders, the best of all runs. None where no trial ended well.
    """
    if leaders is None:
        return pick_best(trials)
    left, _ = next_round(trials, leaders)
    best = _by_mean(trials, left)[0]
    ranked = rank(runs_of(trials, best))
    if leaders.export == "best":
        return ranked[0]
    mean = mean_score(trials, best)
    return min(ranked, key=lambda run: abs((run.score or 0.0) - mean))  # of two as near, the better one


def _affordable(left: Sequence[Trial], epochs: int) -> list[Trial]:
    """The first of some trials that can all be trained again in so many epochs."""
    costs = itertools.accumulate(trial.schedule for trial in left)
    return [trial for trial, cost in zip(left, costs, strict=True) if cost <= epochs]


def _by_mean(trials: Sequence[Trial], leaders: Sequence[Trial]) -> list[Trial]:
    """Best mean first; then fewer trained parameters; then the lower number."""
    return sorted(leaders, key=lambda trial: (-mean_score(trials, trial), trial.size, trial.number))


def _run_again(trials: Sequence[Trial], trial: Trial, seed: int) -> Trial | None:
    return next((run for run in trials if run.confirms == trial.number and run.seed == seed), None)
