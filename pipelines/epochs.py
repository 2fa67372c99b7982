"""What trainings of all methods have between two epochs: the result of one, and the state to go on from."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipelines.config import Config
from pipelines.errors import TrialDiverged
from pipelines.metrics import METRICS
from pipelines.results import EpochResult
from pipelines.tasks.encoded import EncodedTask


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


def epoch_result(
    outputs: NDArray[np.float64],
    task: EncodedTask,
    config: Config,
    *,
    number: int,
    train_loss: float,
    seconds: float,
) -> EpochResult:
    """What an epoch gave, from the head's outputs for the validation set.

    Raises:
        TrialDiverged: an output is not finite.
    """
    if not np.isfinite(outputs).all():
        raise TrialDiverged(f"outputs are not finite after epoch {number} with {config}")
    scores, score, loss = {}, -train_loss, None
    if task.metrics:
        scores = task.score(outputs, task.validation_targets)
        score = METRICS[task.metric].signed(scores[task.metric])
        loss = task.rules.validation_loss(outputs, task.validation_targets, task.scale)
    return EpochResult(
        epoch=number,
        train_loss=train_loss,
        scores=scores,
        score=score,
        seconds=seconds,
        finished_at=time.time(),
        validation_loss=loss,
    )


def is_best(result: EpochResult, before: Sequence[EpochResult]) -> bool:
    """Whether an epoch's model is the one to keep; where nothing is scored, the last one is."""
    return not result.scores or not before or result.score > max(done.score for done in before)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `PREFIX.`, by the rest of them."""
    return {
        key.removeprefix(f"{prefix}."): tensor
        for key, tensor in tensors.items()
        if key.startswith(f"{prefix}.")
    }
