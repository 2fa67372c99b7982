"""The median rule: a trial that is below the others' median is stopped. Pure."""

import statistics
from collections.abc import Sequence

from search.decisions.halving import peers, score_at
from search.record import Trial

MEDIAN_PEERS = 4  # before so many have come as far, no one is stopped for being below their median


def below_median(trial: Trial, trials: Sequence[Trial]) -> str | None:
    """Golovin et al. 2017 (Vizier), §3.2.2: stop what is below the median of the others after as many epochs.

    Deviation: best scores are compared, not running averages, and those of the same schedule only.

    Returns why the trial is stopped, or None.
    """
    epoch = len(trial.epochs)
    others = [peer for peer in peers(trials, trial.schedule, epoch) if peer.number != trial.number]
    if epoch == 0 or len(others) < MEDIAN_PEERS:
        return None
    middle, score = statistics.median(score_at(peer, epoch) for peer in others), score_at(trial, epoch)
    if score >= middle:
        return None
    return (
        f"stopped after epoch {epoch}: {score:.4f} is below the median {middle:.4f} of {len(others)} trials "
        f"of {trial.schedule} epochs"
    )
