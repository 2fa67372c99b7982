"""When a trial pauses or ends early. Pure: functions of a study's trials and of the job's rules."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.decisions.schedulers import SCHEDULERS, Scheduler
from search.record import State, Trial

SAME_FAILURES = 3  # so many first trials that fail in the same way end a study


@dataclass(frozen=True)
class Rules:
    """What a job says of how long trials train.

    Attributes:
        scheduler: the name of one of `SCHEDULERS`.
        reduction: of halving: the rungs' ratio.
        pareto: whether trials are compared by score and size.
        patience: epochs without a better score after which a trial is complete.
    """

    scheduler: str = "none"
    reduction: int = 3
    patience: int | None = None
    pareto: bool = False

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Where a trial with a schedule of so many epochs has to wait."""
        return self.entry.rungs(epochs, self.reduction)

    @property
    def entry(self) -> Scheduler:
        """The scheduler that it names."""
        return SCHEDULERS[self.scheduler]


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
    by_itself = own_verdict(trial, rules)
    if by_itself.state != "running" or not trial.searched:
        return by_itself
    reason = rules.entry.stop_reason(trial, trials)
    return by_itself if reason is None else Verdict("pruned", reason)


def common_failure(trials: Sequence[Trial]) -> str | None:
    """Why a study should be given up: its first trials all failed in the same way, before any epoch."""
    ended = [trial for trial in trials if trial.state not in ("running", "paused")]
    if len(ended) < SAME_FAILURES or any(trial.epochs for trial in trials):
        return None
    kinds = {(trial.reason or "").partition(":")[0] for trial in ended}
    if len(kinds) > 1 or any(trial.state != "failed" for trial in ended):
        return None
    return f"the first {len(ended)} trials all failed in the same way: {ended[0].reason}"
