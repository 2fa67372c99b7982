"""One trial's training, as in Houlsby et al. 2019: it yields epochs, and can be put down between any two."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.config import EncoderConfig
from pipelines.encoder.backbone import Backbone
from pipelines.encoder.batches import send, training_batches
from pipelines.encoder.precision import resolve_precision
from pipelines.encoder.prefix import PrefixCache
from pipelines.epochs import (
    TrainingState,
    epoch_result,
    is_best,
    kept_outputs,
    outputs_to_keep,
    under,
)
from pipelines.errors import TrialDiverged
from pipelines.packs.model import Occupant, PackModel
from pipelines.packs.pack import Pack
from pipelines.packs.trained import initial_parameters, trained_parts
from pipelines.results import EpochResult
from pipelines.tasks.encoded import EncodedTask

WARMUP_FRACTION = 0.1  # of all steps


class Training:
    """One configuration on one task. `run` trains; between epochs `state` and `restore` save and go on.

    Args:
        pack: where it trains beside others; None: in a pack of its own.
        cache: for a pack of its own, where outputs of layers that nothing trains are kept.
        fused: for a pack of its own, as `Pack` takes it; whole encoder weights are trained without.

    Raises:
        InputError: the configuration does not fit the backbone.
    """

    def __init__(
        self,
        backbone: Backbone,
        task: EncodedTask,
        config: EncoderConfig,
        *,
        pooling: str = "auto",
        precision: str = "auto",
        pack: Pack | None = None,
        cache: PrefixCache | None = None,
        fused: bool = False,
    ) -> None:
        self.config = config
        self.task = task
        self.occupant = Occupant(config, task.outputs, spans=task.rules.per_token)
        self.parameters = initial_parameters(backbone, config, outputs=task.outputs)
        self.moments: dict[str, Tensor] = {}
        self.epochs: list[EpochResult] = []
        self.best: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}  # the best epoch's outputs
        self.outputs: NDArray[np.float64] | None = None
        self.failure: TrialDiverged | None = None
        self.steps = 0  # taken so far
        self._targets = task.rules.loss_targets(task.train_targets, task.scale)
        self._steps_an_epoch = math.ceil(len(task.train) / config.batch_size)
        self._started = 0.0  # when this epoch's first step was taken
        self._begin_epoch()
        if pack is None:
            device = next(backbone.model.parameters()).device
            resolved = resolve_precision(precision, device)
            whole = bool(trained_parts(backbone, config).weights)  # these start from the full precision
            pack = Pack(
                backbone if whole else backbone.stored(resolved),
                pooling=backbone.pooling(pooling),
                precision=resolved,
                cache=cache,
                fused=fused and not whole,
            )
        self.pack = pack
        pack.join(self)

    def move_to(self, pack: Pack) -> None:
        """Train in another pack from now on; or again in this one, after leaving it."""
        if self in self.pack.members:
            self.pack.leave(self)
        self.pack = pack
        pack.join(self)

    def _begin_epoch(self) -> None:
        self._batches: list[NDArray[np.int64]] = []
        self._loss_sum = 0.0
        self._unweighed: list[int] = []  # examples of each step whose loss is not in the sum yet

    @property
    def finished(self) -> bool:
        """Whether the schedule is done."""
        return len(self.epochs) == self.config.epochs

    @property
    def steps_left(self) -> int:
        """How many the schedule has yet."""
        return self._steps_an_epoch * self.config.epochs - self.steps

    @property
    def trained_parameters(self) -> int:
        """How many parameters train."""
        return sum(one.numel() for one in self.parameters.values())

    @property
    def model(self) -> PackModel:
        """The model that it trains in, with all members of its pack."""
        return self.pack.model

    def run(self) -> Iterator[EpochResult]:
        """Train the epochs that are left, validating after each; other members of the pack go on as well.

        Raises:
            TrialDiverged: the loss is not finite; says at which step, with which configuration.
        """
        done = len(self.epochs)
        while done < self.config.epochs:
            while len(self.epochs) == done:
                self.pack.step()
                if self.failure is not None:
                    raise self.failure
            yield self.epochs[done]
            done += 1

    def state(self) -> TrainingState:
        """The training as it stands after its last finished epoch, as tensors of its own.

        Of a training whose schedule is done, only the best epoch's parameters and outputs are kept.

        Raises:
            ValueError: it stands within an epoch, as a member of a pack does whose others have ended theirs.
        """
        tensors = {f"best.{name}": tensor for name, tensor in self.best.items()}
        if self.steps != self._steps_an_epoch * len(self.epochs):
            raise ValueError(f"{self.config} stands within epoch {len(self.epochs) + 1}: it has no state")
        if not self.finished:
            parameters, moments = self.pack.copies(self)
            tensors |= {f"last.{name}": tensor.cpu() for name, tensor in parameters.items()}
            tensors |= {f"adam.{name}": tensor.cpu() for name, tensor in moments.items()}
        return TrainingState(self.config, tuple(self.epochs), tensors | self._kept)

    def restore(self, state: TrainingState) -> None:
        """Go on from `state`.

        Raises:
            ValueError: the state is of another configuration.
        """
        state.check(self.config)
        joined = self in self.pack.members
        if joined:
            self.pack.leave(self)
        self.epochs = list(state.epochs)
        self.best = state.best
        self._kept = kept_outputs(state)
        self.steps = self._steps_an_epoch * len(self.epochs)
        self.failure = None
        self._begin_epoch()
        if not self.finished:
            self.parameters = under("last", state.tensors)
            self.moments = under("adam", state.tensors)
        if joined:
            self.pack.join(self)

    # What its pack asks of it, step by step.

    def next_batch(self) -> NDArray[np.int64]:
        """The examples of the next step."""
        if not self._batches:
            self._batches = training_batches(
                self.task.train.lengths,
                self.config.batch_size,
                seed=self.config.seed,
                epoch=len(self.epochs) + 1,
            )
            self._started = time.perf_counter()
        return self._batches[self.steps % self._steps_an_epoch]

    def rate(self) -> float:
        """The learning rate of the next step."""
        return learning_rate_at(
            self.steps, self._steps_an_epoch * self.config.epochs, self.config.learning_rate
        )

    def targets(self, indices: NDArray[np.int64]) -> Tensor:
        """What the loss compares a batch's outputs with, on the CPU."""
        return self._targets[torch.from_numpy(indices)]

    def loss(self, outputs: Tensor, indices: NDArray[np.int64]) -> Tensor:
        """The mean loss of a batch's outputs for every token."""
        targets = send(self.targets(indices), outputs.device)
        lengths = send(torch.from_numpy(self.task.train.lengths[indices]), outputs.device)
        return self.task.rules.loss(outputs, targets, lengths)

    def count_step(self, examples: int) -> None:
        """A step was taken with so many examples."""
        self.steps += 1
        self._unweighed.append(examples)

    @property
    def epoch_ended(self) -> bool:
        """Whether all examples were seen, and the epoch is still to be validated."""
        return self.steps == self._steps_an_epoch * (len(self.epochs) + 1)

    def add_losses(self, losses: Sequence[float]) -> bool:
        """Take the losses since the last call; False, and `failure` set, if one of them is not finite."""
        bad = next((index for index, loss in enumerate(losses) if not math.isfinite(loss)), None)
        if bad is not None:
            step = self.steps - len(losses) + bad + 1
            total = self._steps_an_epoch * self.config.epochs
            self.failure = TrialDiverged(f"loss {losses[bad]} at step {step} of {total} with {self.config}")
            return False
        recent = self._unweighed[: len(losses)]
        self._loss_sum += sum(loss * examples for loss, examples in zip(losses, recent, strict=True))
        self._unweighed = []
        return True

    def end_epoch(self, outputs: NDArray[np.float64], trained: Mapping[str, Tensor]) -> None:
        """Validate, and add the epoch's result; keep what is trained if it is the best so far.

        Raises:
            TrialDiverged: an output is not finite.
        """
        seconds = time.perf_counter() - self._started
        result = epoch_result(
            outputs,
            self.task,
            self.config,
            number=len(self.epochs) + 1,
            train_loss=self._loss_sum / len(self.task.train),
            seconds=seconds,
        )
        self.outputs = outputs
        if is_best(result, self.epochs):
            self.best = {name: view.cpu().clone() for name, view in trained.items()}
            self._kept = outputs_to_keep(outputs, self.task)
        self.epochs.append(result)
        self._begin_epoch()


def learning_rate_at(step: int, total_steps: int, peak: float) -> float:
    """Linear warm-up over the first 10 % of the steps, then linear decay to 0 after the last.

    Args:
        step: 0 for the first.
    """
    warmup = max(1, round(total_steps * WARMUP_FRACTION))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (total_steps - step) / max(1, total_steps - warmup)
