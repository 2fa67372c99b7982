"""What ends a search before its trials are used up. Pure."""

from dataclasses import dataclass

from pipelines.metrics import METRICS


@dataclass(frozen=True)
class Budget:
    """What a job may spend, and what is good enough; the first that is reached ends a search in order.

    Attributes:
        minutes: wall-clock time of the job's search, over all its drivers.
        training_minutes: training time, summed over the trials of all its studies.
        target: a validation score that is good enough, as the metric has it; a study's own.
    """

    minutes: float | None = None
    training_minutes: float | None = None
    target: float | None = None

    def used_up(self, *, seconds: float, training_seconds: float) -> str | None:
        """Why the whole job has to end, or None."""
        if self.minutes is not None and seconds >= 60 * self.minutes:
            return f"the budget of {self.minutes:g} minutes is used up"
        if self.training_minutes is not None and training_seconds >= 60 * self.training_minutes:
            return f"the budget of {self.training_minutes:g} training minutes is used up"
        return None

    def reached(self, best: float | None, metric: str) -> str | None:
        """Why a study with this best (signed) score of a metric may end, or None."""
        if self.target is not None and best is not None and best >= METRICS[metric].signed(self.target):
            return f"the target of {self.target:g} is reached"
        return None
