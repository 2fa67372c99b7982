"""The table of schedulers: what ends trials early. One is a class of this file, or registered from elsewhere;
nothing else knows its name.
"""

from collections.abc import Collection, Mapping, Sequence

from search.decisions.halving import describe_ends, next_promotion, rungs
from search.decisions.median import below_median
from search.record import Trial


class Scheduler:
    """What ends trials early: functions of a study's trials. This one does nothing; others differ in a part.

    Attributes:
        name: as the job file has it.
    """

    name: str

    def rungs(self, epochs: int, reduction: int) -> tuple[int, ...]:
        """The epochs after which a trial waits, in rising order.

        Args:
            epochs: the length of the trial's schedule.
            reduction: the job's, 2 or more.
        """
        return ()

    def promotion(
        self, trials: Sequence[Trial], *, growing: bool, pareto: bool, busy: Collection[int]
    ) -> Trial | None:
        """The waiting trial that goes on next, or None; see `halving.next_promotion`."""
        return None

    def ends(self, trials: Sequence[Trial], *, pareto: bool) -> Mapping[int, str]:
        """Why those that still wait at the end of a search were not promoted, by number: all of them."""
        return {trial.number: "was not promoted" for trial in trials if trial.state == "paused"}

    def stop_reason(self, trial: Trial, trials: Sequence[Trial]) -> str | None:
        """Why a trial that has just reported an epoch is stopped for good, or None. Not asked for
        confirmations.
        """
        return None


SCHEDULERS: dict[str, Scheduler] = {}


def register_scheduler(scheduler: Scheduler) -> None:
    """Make a scheduler known by its name.

    Raises:
        ValueError: the name is taken.
    """
    if scheduler.name in SCHEDULERS:
        raise ValueError(f"scheduler {scheduler.name!r} is registered twice; rename one of them")
    SCHEDULERS[scheduler.name] = scheduler


class Halving(Scheduler):
    """Successive halving that pauses and promotes."""

    name = "halving"

    def rungs(self, epochs: int, reduction: int) -> tuple[int, ...]:
        return rungs(epochs, reduction)

    def promotion(
        self, trials: Sequence[Trial], *, growing: bool, pareto: bool, busy: Collection[int]
    ) -> Trial | None:
        return next_promotion(trials, growing=growing, pareto=pareto, busy=busy)

    def ends(self, trials: Sequence[Trial], *, pareto: bool) -> Mapping[int, str]:
        return describe_ends(trials, pareto=pareto)


class Median(Scheduler):
    """The median rule."""

    name = "median"

    def stop_reason(self, trial: Trial, trials: Sequence[Trial]) -> str | None:
        return below_median(trial, trials)


class Patient(Scheduler):
    """Every trial trains to its end."""

    name = "none"


for _scheduler in (Halving(), Median(), Patient()):
    register_scheduler(_scheduler)
