"""Who won. Pure: validation chooses; the test set is not known here."""

from collections.abc import Sequence

from search.record import Trial


def rank(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that ended with a score, best first: complete ones, and those that were stopped early.

    A trial's score is its best epoch's, wherever it was stopped, and its checkpoint has that epoch. Highest
    validation score; then fewer trained parameters; then the lower number. The order in which the trials are
    given does not matter.
    """
    ended = [t for t in trials if t.state in ("complete", "pruned") and t.score is not None]
    return sorted(ended, key=_order)


def pick_best(trials: Sequence[Trial]) -> Trial | None:
    """The winner, or None where no trial ended well."""
    return next(iter(rank(trials)), None)


def pareto_front(trials: Sequence[Trial]) -> list[Trial]:
    """The trials of a search that ended with a score and that no other beats in both score and size, the
    smallest first; of several alike the first.
    """
    front: list[Trial] = []
    for trial in rank([trial for trial in trials if trial.confirms is None]):  # best score first
        if not front or trial.size < front[-1].size:
            front.append(trial)
    return front[::-1]


def _order(trial: Trial) -> tuple[float, int, int]:
    score = trial.score
    if score is None:
        raise ValueError(f"trial {trial.number} has no score")
    return (-score, trial.size, trial.number)
