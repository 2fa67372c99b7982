"""Training of the method `embeddings`: Adagrad over samples, validated after each of a few equal parts."""

import math
import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.encoder.backbone import Backbone
from pipelines.encoder.batches import training_batches
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
from pipelines.errors import InputError, TrialDiverged
from pipelines.results import EpochResult
from pipelines.tasks.encoded import EncodedTask
from pipelines.towers.adagrad import Adagrad
from pipelines.towers.bags import Bags, pool
from pipelines.towers.config import PARTS, EmbeddingConfig
from pipelines.towers.layers import TABLE, WIDE, Masks, initial_towers, is_penalised, is_trained, tower_shapes
from pipelines.towers.model import (
    TABLE_IDS,
    WIDE_IDS,
    Source,
    Vectors,
    count_trained_embeddings,
    deep_outputs,
    distinct_rows,
    predict_towers,
    with_averages,
)


class EmbeddingTraining:
    """One configuration on one task: as `Training`, for towers instead of an encoder. It trains on the CPU.

    Args:
        task: with its texts.
        vectors: word vectors by name.
        cache: where sentence vectors are kept.

    Raises:
        InputError: the configuration does not fit task, backbone or vectors.
    """

    def __init__(
        self,
        backbone: Backbone,
        task: EncodedTask,
        config: EmbeddingConfig,
        *,
        pooling: str = "auto",
        precision: str = "auto",
        vectors: Vectors,
        cache: PrefixCache | None = None,
    ) -> None:
        if task.texts is None:
            rule = f"task {task.name!r} has no texts for the method embeddings"
            raise InputError("method", config.method, rule, "Encode it with its texts.")
        self.config = config
        self.task = task
        self.epochs: list[EpochResult] = []
        self.best: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}  # the best epoch's outputs
        self.outputs: NDArray[np.float64] | None = None
        device = next(backbone.model.parameters()).device
        source = Source(
            backbone,
            config,
            framing=task.texts.framing,
            pooling=pooling,
            precision=resolve_precision(precision, device),
            vectors=vectors,
            cache=cache,
        )
        texts = task.texts
        for name, split in (("train", texts.train), ("validation", texts.validation)):
            wide = source.wide(split)
            if len(wide) and not len(wide.rows):
                rule = f"no text of {task.name}'s {name} rows has a token left"
                fix = "Write false, or leave it out; or check the texts and the encoder's vocabulary."
                key = "strip_non_alphanumerics"
                raise InputError(key, config.strip_non_alphanumerics, rule, fix)
        wide_ids = distinct_rows([source.wide(texts.train)])
        table_ids = distinct_rows(source.columns(texts.train), source.columns(texts.validation))
        self.table = source.rows(table_ids)
        self._train, self._validation = (
            with_averages(source.inputs(one, wide_ids, table_ids), config, self.table)
            for one in (texts.train, texts.validation)
        )
        columns = len(next(iter(texts.train.tokens.values())))
        shapes = tower_shapes(config, width=source.width, columns=columns, outputs=task.outputs)
        self.tensors = initial_towers(config, shapes)
        self.tensors[WIDE] = torch.zeros(len(wide_ids), task.outputs)
        self.tensors[WIDE_IDS] = torch.from_numpy(wide_ids)
        if config.fine_tune_embedding:
            self.tensors[TABLE] = self.table
            self.tensors[TABLE_IDS] = torch.from_numpy(table_ids)
        self.trained_parameters = count_trained_embeddings(
            backbone, config, outputs=task.outputs, columns=columns, vectors=vectors
        )
        self._optimizer = self._make_optimizer()
        self._targets = task.rules.loss_targets(task.train_targets, task.scale)
        self._plan_steps()
        self._begin_part()

    def _plan_steps(self) -> None:
        rows, size = len(self._train), self.config.batch_size
        self._steps_a_pass = math.ceil(rows / size)
        passes, rest = divmod(self.config.training_samples, rows)
        self.total_steps = max(PARTS, passes * self._steps_a_pass + math.ceil(rest / size))
        self._batches: tuple[int, list[NDArray[np.int64]]] = (-1, [])  # a pass, and its batches

    @property
    def finished(self) -> bool:
        """Whether all samples were seen."""
        return len(self.epochs) == PARTS

    def run(self) -> Iterator[EpochResult]:
        """Train the parts that are left, validating after each.

        Raises:
            TrialDiverged: the loss or an output is not finite.
        """
        while not self.finished:
            while self._steps < self._steps_until(len(self.epochs) + 1):
                self._take_step()
            yield self._end_part()

    def state(self) -> TrainingState:
        """The training as it stands after its last finished part, as tensors of its own.

        Of a training that is done, only the best part's tensors and outputs are kept.
        """
        tensors = {f"best.{name}": tensor for name, tensor in self.best.items()}
        if not self.finished:
            tensors |= {f"last.{name}": tensor.clone() for name, tensor in self.tensors.items()}
            tensors |= {f"adagrad.{name}": tensor.clone() for name, tensor in self._optimizer.sums.items()}
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
        self._begin_part()
        if not self.finished:
            self.tensors = {name: tensor.clone() for name, tensor in under("last", state.tensors).items()}
            self.table = self.tensors.get(TABLE, self.table)
            self._optimizer = self._make_optimizer(under("adagrad", state.tensors))

    def _make_optimizer(self, sums: Mapping[str, Tensor] | None = None) -> Adagrad:
        trained = {name: tensor for name, tensor in self.tensors.items() if is_trained(name)}
        return Adagrad(trained, sums)

    def _begin_part(self) -> None:
        self._steps = self._steps_until(len(self.epochs))  # taken so far
        self._loss_sum, self._samples, self._seconds = 0.0, 0, 0.0  # of this part

    def _take_step(self) -> None:
        started = time.perf_counter()
        batch = self._batch(self._steps)
        loss = self._step(self._steps, batch)
        self._steps += 1
        if not math.isfinite(loss):
            raise TrialDiverged(f"loss {loss} at step {self._steps} of {self.total_steps} with {self.config}")
        self._loss_sum += loss * len(batch)
        self._samples += len(batch)
        self._seconds += time.perf_counter() - started

    def _end_part(self) -> EpochResult:
        self.outputs = predict_towers(self.config, self.tensors, self._validation, self.table)
        result = epoch_result(
            self.outputs,
            self.task,
            self.config,
            number=len(self.epochs) + 1,
            train_loss=self._loss_sum / self._samples,
            seconds=self._seconds,
        )
        if is_best(result, self.epochs):
            self.best = {name: tensor.clone() for name, tensor in self.tensors.items()}
            self._kept = outputs_to_keep(self.outputs, self.task)
        self.epochs.append(result)
        self._begin_part()
        return result

    def _steps_until(self, part: int) -> int:
        return self.total_steps * part // PARTS

    def _batch(self, step: int) -> NDArray[np.int64]:
        """The examples of a step: a function of (seed, step)."""
        number, place = divmod(step, self._steps_a_pass)
        if self._batches[0] != number:
            batches = training_batches(
                self._train.lengths, self.config.batch_size, seed=self.config.seed, epoch=number + 1
            )
            self._batches = number, batches
        batch = self._batches[1][place]
        if len(batch) == 1 and self._steps_a_pass > 1 and self.config.batch_norm:  # it needs two
            batch = np.append(batch, self._batches[1][place - 1][:1])
        return batch

    def _step(self, step: int, batch: NDArray[np.int64]) -> float:
        """One step on some examples; returns their mean loss before it."""
        config, optimizer = self.config, self._optimizer
        dense = {
            name: tensor.detach().requires_grad_(is_trained(name))
            for name, tensor in self.tensors.items()
            if name not in (WIDE, TABLE, WIDE_IDS, TABLE_IDS)
        }
        wide, wide_rows, places = _rows_of(self.tensors[WIDE], self._train.wide.take(batch))
        inputs, texts, table = self._train, batch, self.table
        table_rows = torch.empty(0)
        if config.fine_tune_embedding:  # the batch's rows of the table alone
            taken = [bags.take(batch) for bags in inputs.columns]
            ids = distinct_rows(taken)
            table, table_rows = self.table[ids].requires_grad_(), torch.from_numpy(ids)
            inputs = type(inputs)(self._train.wide, tuple(bags.within(ids) for bags in taken))
            texts = np.arange(len(batch))
        masks = Masks(config.seed, step)
        outputs = deep_outputs(config, dense, inputs, texts, table, masks) + pool(places, wide, "sum")
        loss = self.task.rules.loss(outputs, self._targets[torch.from_numpy(batch)])
        loss.backward()
        rate, penalty = config.deep_learning_rate, config.deep_regularisation
        for name, tensor in dense.items():
            if tensor.grad is not None:
                optimizer.step(name, tensor.grad, rate=rate, penalty=penalty if is_penalised(name) else 0.0)
        if wide.grad is not None:
            rate, penalty = config.wide_learning_rate, config.wide_regularisation
            optimizer.step(WIDE, wide.grad, rate=rate, penalty=penalty, rows=wide_rows)
        if table.grad is not None:
            optimizer.step(TABLE, table.grad, rate=config.deep_learning_rate, rows=table_rows)
        return loss.item()


def _rows_of(table: Tensor, bags: Bags) -> tuple[Tensor, Tensor, Bags]:
    """The rows of a table that some texts have, as a leaf of their own; which they are; the texts' places."""
    ids = distinct_rows([bags])
    rows = torch.from_numpy(ids)
    return table[rows].requires_grad_(), rows, bags.within(ids)
