"""Training of the method `probe`: one fit, which is one epoch."""

import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.encoder.backbone import Backbone
from pipelines.encoder.precision import resolve_precision
from pipelines.encoder.prefix import PrefixCache
from pipelines.encoder.tokens import Texts
from pipelines.epochs import TrainingState, epoch_result, kept_outputs, outputs_to_keep
from pipelines.errors import InputError
from pipelines.probe.config import ProbeConfig
from pipelines.probe.features import (
    AS_WRITTEN,
    BIAS,
    STRENGTH,
    WEIGHT,
    count_head,
    features,
    outputs,
)
from pipelines.probe.fit import fit_classes, fit_numbers
from pipelines.results import EpochResult
from pipelines.tasks.encoded import EncodedTask


class ProbeTraining:
    """One configuration on one task.

    Args:
        task: with its texts.
        cache: where the encoder's vectors are kept.

    Raises:
        InputError: the task has no texts, or the encoder not the pooling.
    """

    def __init__(
        self,
        backbone: Backbone,
        task: EncodedTask,
        config: ProbeConfig,
        *,
        precision: str = "auto",
        cache: PrefixCache | None = None,
    ) -> None:
        if task.texts is None or AS_WRITTEN not in task.texts.train.tokens:
            rule = f"task {task.name!r} has no texts for the method probe"
            raise InputError("method", config.method, rule, "Encode it with its texts.")
        self.config = config
        self.task = task
        self.epochs: list[EpochResult] = []
        self.best: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}  # the outputs, for the state
        self.outputs: NDArray[np.float64] | None = None
        self._texts = task.texts
        self._backbone = backbone
        self._pooling = backbone.pooling(config.pooling)
        self._precision = resolve_precision(precision, next(backbone.model.parameters()).device)
        self._cache = cache
        columns = len(task.texts.train.tokens[AS_WRITTEN])
        self.trained_parameters = count_head(backbone, outputs=task.outputs, columns=columns)

    @property
    def finished(self) -> bool:
        """Whether it is fitted."""
        return len(self.epochs) == self.config.epochs

    def run(self) -> Iterator[EpochResult]:
        """Fit, and validate."""
        if self.finished:
            return
        started = time.perf_counter()
        task, rules = self.task, self.task.rules
        read = self._features(self._texts.train)
        fitted = self._texts.fitted
        known = task.train_targets if fitted is None else task.train_targets[fitted]
        targets = rules.loss_targets(known, task.scale)
        if rules.classes:
            found = fit_classes(read, targets.numpy(), task.outputs, seed=self.config.seed)
        else:
            found = fit_numbers(read, targets.double().numpy().reshape(-1))
        parameters = {WEIGHT: found.weight, BIAS: found.bias, STRENGTH: np.array([found.strength])}
        self.best = {name: torch.from_numpy(value).float() for name, value in parameters.items()}
        loss = rules.loss(torch.from_numpy(outputs(self.best, read)).float(), targets)
        self.outputs = outputs(self.best, self._features(self._texts.validation))
        result = epoch_result(
            self.outputs,
            task,
            self.config,
            number=1,
            train_loss=loss.item(),
            seconds=time.perf_counter() - started,
        )
        self.epochs.append(result)
        self._kept = outputs_to_keep(self.outputs, task)
        yield result

    def state(self) -> TrainingState:
        """The fitted model; before it, nothing."""
        tensors = {f"best.{name}": tensor for name, tensor in self.best.items()}
        return TrainingState(self.config, tuple(self.epochs), tensors | self._kept)

    def restore(self, state: TrainingState) -> None:
        """Go on from `state`.

        Raises:
            ValueError: the state is of another configuration.
        """
        state.check(self.config)
        self.epochs = list(state.epochs)
        self.best = state.best
        self._kept = kept_outputs(state)

    def _features(self, texts: Texts) -> NDArray[np.float64]:
        return features(
            self._backbone, texts, pooling=self._pooling, precision=self._precision, cache=self._cache
        )
