"""Re-running the best configurations with further seeds, as the paper did (§3.2). Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from search.decisions.selection import rank
from search.record import Trial


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
