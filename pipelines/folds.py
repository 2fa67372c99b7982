"""A trial of a task in folds: a training for each fold, which together are one training (cross-validation).

Stone 1974, "Cross-Validatory Choice and Assessment of Statistical Predictions". Each row is predicted by the
model that was not trained on it; an epoch's score is that of all rows together, over all folds.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.config import Config
from pipelines.epochs import PREDICTED, TrainingState, epoch_result, is_best, under
from pipelines.method import Training
from pipelines.results import EpochResult
from pipelines.tasks.encoded import EncodedTask


class FoldedTraining:
    """One configuration on one task in folds.

    Its state has what each fold's training needs to go on, and of the best epoch what the models predicted,
    not the models: whoever wants one trains it on all rows.

    Args:
        make: makes a training of what a fold's model sees.
    """

    def __init__(self, task: EncodedTask, make: Callable[[EncodedTask], Training]) -> None:
        if task.folds is None:
            raise ValueError(f"task {task.name} has no folds")
        self.task = task
        self.views = [task.fold(number) for number in range(int(task.folds.max()) + 1)]
        self.trainings: Sequence[Training] = [make(view) for view in self.views]
        self.epochs: list[EpochResult] = []
        self.outputs: NDArray[np.float64] | None = None
        self._best = torch.empty(0)
        self._states: list[TrainingState] = []  # of each fold, after the last epoch
        self._ended: dict[int, TrainingState] = {}  # by fold, of those that have ended the next one

    @property
    def config(self) -> Config:
        """What all folds train."""
        return self.trainings[0].config

    @property
    def trained_parameters(self) -> int:
        """How many parameters train in one model."""
        return self.trainings[0].trained_parameters

    @property
    def finished(self) -> bool:
        """Whether the schedule is done."""
        return len(self.epochs) == self.config.epochs

    def run(self) -> Iterator[EpochResult]:
        """Train the epochs that are left, each in one fold after the other.

        Raises:
            TrialDiverged: one of the folds did.
        """
        running = [training.run() for training in self.trainings]
        while not self.finished:
            for training, epochs in zip(self.trainings, running, strict=True):
                next(epochs)
                self.note_end(training)
            yield self.epochs[-1]

    def note_end(self, training: Training) -> None:
        """A fold's training has ended an epoch, the next one to all. After the last fold's the epoch has its
        result.

        Raises:
            TrialDiverged: an output is not finite.
        """
        self._ended[self.trainings.index(training)] = training.state()
        if len(self._ended) == len(self.trainings):
            self._end_epoch()

    def _end_epoch(self) -> None:
        results = [training.epochs[-1] for training in self.trainings]
        rows = [len(view.train) for view in self.views]
        result = epoch_result(
            self._predicted(),
            self.task,
            self.config,
            number=len(self.epochs) + 1,
            train_loss=float(np.average([one.train_loss for one in results], weights=rows)),
            seconds=_covered([(one.finished_at - one.seconds, one.finished_at) for one in results]),
        )
        if is_best(result, self.epochs):
            self._best = torch.from_numpy(self._predicted())
        self.epochs.append(result)
        self._states = [self._ended[number] for number in range(len(self.trainings))]
        self._ended = {}

    def _predicted(self) -> NDArray[np.float64]:
        """What each row was predicted by the model of its fold, in the scale of all rows."""
        found = np.empty((len(self.task.train), self.task.outputs))
        for number, (view, training) in enumerate(zip(self.views, self.trainings, strict=True)):
            if training.outputs is None:
                raise ValueError(f"fold {number} of {self.config} has predicted nothing")
            found[self.task.folds == number] = view.scale.to(self.task.scale, training.outputs)
        return found

    def state(self) -> TrainingState:
        """The training as it stands after its last epoch that all folds have ended."""
        tensors = {PREDICTED: self._best}
        for number, state in enumerate(() if self.finished else self._states):
            tensors |= {
                f"fold.{number}.{name}": tensor
                for name, tensor in state.tensors.items()
                if not name.startswith("best.") and name != PREDICTED
            }
        return TrainingState(self.config, tuple(self.epochs), tensors)

    def restore(self, state: TrainingState) -> None:
        """Go on from `state`.

        Raises:
            ValueError: the state is of another configuration.
        """
        state.check(self.config)
        self.epochs = list(state.epochs)
        self._best = state.tensors[PREDICTED]
        self._ended = {}
        self._states = [
            TrainingState(self.config, state.epochs, under(f"fold.{number}", state.tensors))
            for number in range(len(self.trainings))
        ]
        for training, own in zip(self.trainings, self._states, strict=True):
            training.restore(own)


def start_training(task: EncodedTask, make: Callable[[EncodedTask], Training]) -> Training:
    """The training of a task, in folds where it has some.

    Args:
        make: makes the training of a task, or of what a fold's model sees.
    """
    return make(task) if task.folds is None else FoldedTraining(task, make)


def _covered(stretches: Sequence[tuple[float, float]]) -> float:
    """How long at least one of some stretches of time lasted, in seconds."""
    total, reached = 0.0, -np.inf
    for start, end in sorted(stretches):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return float(total)
