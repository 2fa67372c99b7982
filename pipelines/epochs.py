"""What trainings of all methods have between two epochs: the result of one, and the state to go on from."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.config import Config
from pipelines.errors import TrialDiverged
from pipelines.metrics import METRICS
from pipelines.results import EpochResult
from pipelines.tasks.encoded import EncodedTask

PREDICTED = "predicted"  # the tensor of a state with the outputs for the validation set of the best epoch


@dataclass(frozen=True)
class TrainingState:
    """All that a training needs to go on after an epoch as if it had never stopped.

    Random numbers need no state of their own: data order and dropout are functions of (seed, step).

    Attributes:
        config: what is trained.
        epochs: the results so far, first epoch first.
        tensors: `last.NAME` and `best.NAME` trained parameters, and the optimizer's under a name of its own:
            `adam.MOMENT.NAME` of an encoder's, `adagrad.NAME` of towers'. `PREDICTED` as `predicted` has it.
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


def outputs_to_keep(outputs: NDArray[np.float64], task: EncodedTask) -> dict[str, Tensor]:
    """What a state keeps of the best epoch's outputs, `PREDICTED` in fp32: 4 bytes a row and class.

    Nothing where they are not scored, and of outputs for every token, which are as large as a model.
    """
    if not task.metrics or task.rules.per_token:
        return {}
    return {PREDICTED: torch.from_numpy(outputs).float()}


def kept_outputs(state: TrainingState) -> dict[str, Tensor]:
    """What `outputs_to_keep` put into a state; empty for one of before there was any."""
    return {name: tensor for name, tensor in state.tensors.items() if name == PREDICTED}


def predicted(state: TrainingState) -> NDArray[np.float64] | None:
    """The outputs (rows, outputs) for the validation set after the best epoch, in folds for all rows.

    None where none were kept: nothing was scored, they are of every token, or the checkpoint is of before
    they were.
    """
    found = state.tensors.get(PREDICTED)
    return None if found is None else np.asarray(found.numpy(), dtype=np.float64)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `PREFIX.`, by the rest of them."""
    return {
        key.removeprefix(f"{prefix}."): tensor
        for key, tensor in tensors.items()
        if key.startswith(f"{prefix}.")
    }
