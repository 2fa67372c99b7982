"""When a trial pauses or ends early. Pure: functions of a study's trials and of the job's rules."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from search.decisions.halving import peers, rungs, score_at
from search.record import State, Trial

MEDIAN_PEERS = 4  # before so many have come as far, no one is stopped for being below their median
SAME_FAILURES = 3  # so many first trials that fail in the same way end a study

Scheduler = Literal["halving", "median", "none"]


@dataclass(frozen=True)
class Rules:
    """What a job says of how long trials train.

    Attributes:
        reduction: of halving: the rungs' ratio.
        pareto: whether trials are compared by score and size.
        patience: epochs without a better score after which a trial is complete.
    """

    scheduler: Scheduler = "none"
    reduction: int = 3
    patience: int | None = None
    pareto: bool = False

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Where a trial with a schedule of so many epochs has to wait."""
        return rungs(epochs, self.reduction) if self.scheduler == "halving" else ()


@dataclass(frozen=True)
class Verdict:
    """What is to become of a trial after an epoch."""

    state: State
    reason: str | None = None


def own_verdict(trial: Trial, rules: Rules) -> Verdict:
    """What follows from a trial's own record, whatever the others did: the same after a restart."""
    if len(trial.epochs) >= trial.schedule:
        return Verdict("complete")
    best = trial.best_epoch
    if rules.patience is not None and best is not None and len(trial.epochs) - best >= rules.patience:
        return Verdict("complete", f"no better score in {rules.patience} epochs")
    return Verdict("paused") if trial.rung is not None else Verdict("running")


def verdict(trial: Trial, trials: Sequence[Trial], rules: Rules) -> Verdict:
    """What is to become of a trial that has just reported an epoch."""
    own = own_verdict(trial, rules)
    if own.state != "running" or rules.scheduler != "median" or trial.confirms is not None:
        return own
    return _median_verdict(trial, trials) or own


def _median_verdict(trial: Trial, trials: Sequence[Trial]) -> Verdict | None:
    """Golovin et al. 2017 (Vizier), §3.2.2: stop what is below the median of the others after as many epochs.

    Deviation: best scores are compared, not running averages, and those of the same schedule only.
    """
    epoch = len(trial.epochs)
    others = [peer for peer in peers(trials, trial.schedule, epoch) if peer.number != trial.number]
    if epoch == 0 or len(others) < MEDIAN_PEERS:
        return None
    middle, score = statistics.median(score_at(peer, epoch) for peer in others), score_at(trial, epoch)
    if score >= middle:
        return None
    return Verdict(
        "pruned",
        f"stopped after epoch {epoch}: {score:.4f} is below the median {middle:.4f} of {len(others)} trials "
        f"of {trial.schedule} epochs",
    )


def common_failure(trials: Sequence[Trial]) -> str | None:
    """Why a study should be given up: its first trials all failed in the same way, before any epoch."""
    ended = [trial for trial in trials if trial.state not in ("running", "paused")]
    if len(ended) < SAME_FAILURES or any(trial.epochs for trial in trials):
        return None
    kinds = {(trial.reason or "").partition(":")[0] for trial in ended}
    if len(kinds) > 1 or any(trial.state != "failed" for trial in ended):
        return None
    return f"the first {len(ended)} trials all failed in the same way: {ended[0].reason}"
