"""The state of a training between two epochs: all that it needs to go on."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pipelines.config import Config
from pipelines.results import EpochResult


@dataclass(frozen=True)
class TrainingState:
    """All that a training needs to go on after an epoch as if it had never stopped.

    Random numbers need no state of their own: data order and dropout are functions of (seed, step).

    Attributes:
        config: what is trained.
        epochs: the results so far, first epoch first.
        tensors: `last.NAME` and `best.NAME` trained parameters, and the optimizer's under a name of its own:
            `adam.MOMENT.NAME` of an encoder's, `adagrad.NAME` of towers'.
    """

    config: Config
    epochs: tuple[EpochResult, ...]
    tensors: Mapping[str, Tensor]

    @property
    def best(self) -> dict[str, Tensor]:
        """The trained parameters of the best epoch."""
        return under("best", self.tensors)

    def check(self, config: Config) -> None:
        """Raise ValueError if the state is of another configuration."""
        if self.config != config:
            raise ValueError(f"the checkpoint is of {self.config}, not of {config}")


def never() -> bool:
    """What stops no run."""
    return False


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `PREFIX.`, by the rest of them."""
    return {
        key.removeprefix(f"{prefix}."): tensor
        for key, tensor in tensors.items()
        if key.startswith(f"{prefix}.")
    }
