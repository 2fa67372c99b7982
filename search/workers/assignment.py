"""What a driver hands to a worker: the one trial to train, or to go on with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pipelines.config import Config
from pipelines.method import find_method
from search.record import Params, Trial

if TYPE_CHECKING:  # torch takes seconds to import
    from pipelines.tasks.encoded import EncodedTask

_KEY = "assignment"  # in the dict that Tune carries


@dataclass(frozen=True)
class Assignment:
    """A trial to train: enough to find everything else by name. Beyond it there is no dict of parameters.

    Attributes:
        number: the trial's, in its study.
        known: how many epochs the study has; what a checkpoint has beyond them is reported before any other
            is trained.
        refit: whether it trains on the rows of train and validation.
        host: the actor that trains it beside others; None: the worker itself.
    """

    task: str
    method: str
    number: int
    seed: int
    params: Params
    known: int = 0
    host: str | None = None
    refit: bool = False

    @classmethod
    def of(cls, trial: Trial, task: str, *, host: str | None = None) -> Self:
        """The assignment of a trial as its study has it."""
        known, refit = len(trial.epochs), trial.refits is not None
        return cls(task, trial.method, trial.number, trial.seed, dict(trial.params), known, host, refit)

    @property
    def key(self) -> str:
        """The trial's name within its job."""
        return f"{self.task}/{self.method}/{self.number}"

    def seen(self, task: "EncodedTask") -> "EncodedTask":
        """What it sees of its task."""
        return task.refitted() if self.refit else task

    def config(self) -> Config:
        """What it trains; raises TypeError for a parameter that its method does not have."""
        return find_method(self.method).config(self.params, seed=self.seed)

    def to_tune(self) -> dict[str, Any]:
        """The dict that Tune asks for as a trial's configuration."""
        return {_KEY: self}

    @classmethod
    def from_tune(cls, config: Mapping[str, Any]) -> "Assignment":
        """What `to_tune` put into a trial's configuration."""
        assignment: Assignment = config[_KEY]
        return assignment
