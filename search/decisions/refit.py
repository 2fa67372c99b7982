"""Training the winner again on all rows, once nothing is left to be chosen. Pure."""

from collections.abc import Collection, Sequence

from search.decisions.confirmation import pick_winner, runs_of
from search.record import Leaders, Trial


def missing_refits(
    trials: Sequence[Trial], again: Collection[int] = (), leaders: Leaders | None = None
) -> list[Trial]:
    """The runs of the winner's configuration that are still to be trained again, each with its own seed.

    Args:
        again: numbers of failed trials, refits among them, that are to be tried once more.
        leaders: as `pick_winner` has them.
    """
    best = pick_winner(trials, leaders)
    known = {trial.refits for trial in trials if trial.state != "failed" or trial.number not in again}
    return [] if best is None else [run for run in runs_of(trials, best) if run.number not in known]


def refit_of(trials: Sequence[Trial], number: int) -> Trial | None:
    """The complete refit of a trial; None where there is none."""
    return next((one for one in trials if one.refits == number and one.state == "complete"), None)
