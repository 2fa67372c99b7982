"""One trial's training, as in Houlsby et al. 2019: it yields epochs, and can be put down between any two."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipelines.backbone import Backbone
from pipelines.batches import collate, evaluation_batches, training_batches
from pipelines.config import TrainConfig
from pipelines.methods import TrialModel, build_model, is_decayed
from pipelines.metrics import score
from pipelines.tokens import EncodedTask, Tokens

WARMUP_FRACTION = 0.1  # of all steps
MAX_GRADIENT_NORM = 1.0
EVALUATION_BATCH = 64  # examples


class TrialDiverged(ArithmeticError):
    """A trial's loss stopped being a finite number: a failure with a reason, never a score."""


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave.

    Attributes:
        epoch: 1 for the first.
        train_loss: mean over the epoch's examples.
        scores: validation metrics by name; fractions or correlations, higher is better.
        score: the metric that chooses.
        seconds: of training only, without validation.
        finished_at: seconds since 1970, by the clock of the machine that trained.
    """

    epoch: int
    train_loss: float
    scores: Mapping[str, float]
    score: float
    seconds: float
    finished_at: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class TrainingState:
    """All that a training needs to go on after an epoch as if it had never stopped.

    Random numbers need no state of their own: data order and dropout are functions of (seed, epoch).

    Attributes:
        config: what is trained.
        epochs: the results so far, first epoch first.
        tensors: `last.NAME` and `best.NAME` trained parameters, `adam.MOMENT.NAME` the optimizer's.
    """

    config: TrainConfig
    epochs: tuple[EpochResult, ...]
    tensors: Mapping[str, Tensor]

    @property
    def best(self) -> dict[str, Tensor]:
        """The trained parameters of the best epoch."""
        return _under("best", self.tensors)


class Training:
    """One configuration on one task. `run` trains; between epochs `state` and `restore` save and go on."""

    def __init__(
        self,
        backbone: Backbone,
        task: EncodedTask,
        config: TrainConfig,
        *,
        pooling: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.config = config
        self.task = task
        self.device = next(backbone.model.parameters()).device
        self.precision = resolve_precision(precision, self.device)
        self.epochs: list[EpochResult] = []
        self.best: dict[str, Tensor] = {}
        self._pad_id = int(backbone.tokenizer.pad_token_id)
        self.model = build_model(backbone, config, outputs=task.outputs, pooling=backbone.pooling(pooling))
        named = self.model.trained.items()
        self._optimizer = torch.optim.AdamW(
            [
                {"params": [p for name, p in named if is_decayed(name)], "weight_decay": config.weight_decay},
                {"params": [p for name, p in named if not is_decayed(name)], "weight_decay": 0.0},
            ],
            lr=0.0,
            fused=True,
        )
        self.target_mean, self.target_std = target_scale(task)
        self._targets = _training_targets(task, self.target_mean, self.target_std)
        self._steps_an_epoch = math.ceil(len(task.train) / config.batch_size)

    @property
    def finished(self) -> bool:
        """Whether the schedule is done."""
        return len(self.epochs) == self.config.epochs

    def run(self) -> Iterator[EpochResult]:
        """Train the epochs that are left, validating after each.

        Raises:
            TrialDiverged: the loss is not finite; says at which step, with which configuration.
        """
        while not self.finished:
            epoch = len(self.epochs) + 1
            started = time.perf_counter()
            loss = self._train_epoch(epoch)
            seconds = time.perf_counter() - started
            scores = self._validate()
            result = EpochResult(
                epoch=epoch,
                train_loss=loss,
                scores=scores,
                score=scores[self.task.metric],
                seconds=seconds,
                finished_at=time.time(),
            )
            if not self.epochs or result.score > max(done.score for done in self.epochs):
                self.best = self._trained_copy()
            self.epochs.append(result)
            yield result

    def state(self) -> TrainingState:
        """The training as it stands after its last finished epoch, as tensors of its own.

        Of a training whose schedule is done, only the best epoch's parameters are kept.
        """
        tensors = {f"best.{name}": tensor for name, tensor in self.best.items()}
        if self.finished:
            return TrainingState(self.config, tuple(self.epochs), tensors)
        tensors |= {f"last.{name}": tensor for name, tensor in self._trained_copy().items()}
        for name, parameter in self.model.trained.items():
            for moment, value in self._optimizer.state[parameter].items():
                tensors[f"adam.{moment}.{name}"] = value.detach().cpu().clone()
        return TrainingState(self.config, tuple(self.epochs), tensors)

    def restore(self, state: TrainingState) -> None:
        """Go on from `state`.

        Raises:
            ValueError: the state is of another configuration.
        """
        if state.config != self.config:
            raise ValueError(f"the checkpoint is of {state.config}, not of {self.config}")
        self.epochs = list(state.epochs)
        self.best = state.best
        if self.finished:
            return
        last = _under("last", state.tensors)
        with torch.no_grad():
            for name, parameter in self.model.trained.items():
                parameter.copy_(last[name])
                self._optimizer.state[parameter] = {
                    key.split(".", 2)[1]: value.to(self.device, copy=True)  # the fused step counts there too
                    for key, value in state.tensors.items()
                    if key.startswith("adam.") and key.split(".", 2)[2] == name
                }

    def _train_epoch(self, epoch: int) -> float:
        """One pass over the training set; returns the mean loss per example."""
        config, task = self.config, self.task
        seed = int(np.random.SeedSequence((config.seed, epoch)).generate_state(1)[0])
        torch.manual_seed(seed)  # dropout's generator
        self.model.train()
        total_steps = self._steps_an_epoch * config.epochs
        step = self._steps_an_epoch * (epoch - 1)
        total_loss = 0.0
        batches = training_batches(task.train.lengths, config.batch_size, seed=config.seed, epoch=epoch)
        for indices in batches:
            batch = collate(task.train, indices, pad_id=self._pad_id, device=self.device)
            rate = learning_rate_at(step, total_steps, config.learning_rate)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            with self._autocast():
                outputs = self.model(batch)
            loss = _loss(outputs, self._targets[torch.from_numpy(indices)].to(self.device), task.kind)
            value = loss.item()
            if not math.isfinite(value):
                raise TrialDiverged(f"loss {value} at step {step + 1} of {total_steps} with {config}")
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.trained.values(), MAX_GRADIENT_NORM)
            self._optimizer.step()
            total_loss += value * len(indices)
            step += 1
        return total_loss / len(task.train)

    def _validate(self) -> dict[str, float]:
        outputs = predict(self.model, self.task.validation, pad_id=self._pad_id, precision=self.precision)
        if not np.isfinite(outputs).all():
            raise TrialDiverged(
                f"outputs are not finite after epoch {len(self.epochs) + 1} with {self.config}"
            )
        return score_outputs(
            outputs, self.task, self.task.validation_targets, self.target_mean, self.target_std
        )

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.precision)

    def _trained_copy(self) -> dict[str, Tensor]:
        return {name: p.detach().cpu().clone() for name, p in self.model.trained.items()}


@torch.inference_mode()
def predict(model: TrialModel, tokens: Tokens, *, pad_id: int, precision: str) -> NDArray[np.float64]:
    """The head's outputs for every text, shape (n, outputs), in the order of `tokens`."""
    model.eval()
    device = model.head.weight.device
    outputs = np.empty((len(tokens), model.head.out_features), dtype=np.float64)
    for indices in evaluation_batches(tokens.lengths, EVALUATION_BATCH):
        with autocast(device, precision):
            batch_outputs = model(collate(tokens, indices, pad_id=pad_id, device=device))
        outputs[indices] = batch_outputs.cpu().numpy()
    return outputs


def score_outputs(
    outputs: NDArray[np.float64],
    task: EncodedTask,
    targets: NDArray[Any],
    target_mean: float,
    target_std: float,
) -> dict[str, float]:
    """All of a task's metrics for the head's outputs."""
    if task.kind == "regression":
        predictions: NDArray[Any] = outputs[:, 0] * target_std + target_mean
    else:
        predictions = outputs.argmax(axis=1)
    return {name: score(name, predictions, targets, positive=task.positive) for name in task.metrics}


def learning_rate_at(step: int, total_steps: int, peak: float) -> float:
    """Linear warm-up over the first 10 % of the steps, then linear decay to 0 after the last.

    Args:
        step: 0 for the first.
    """
    warmup = max(1, round(total_steps * WARMUP_FRACTION))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (total_steps - step) / max(1, total_steps - warmup)


def resolve_precision(wanted: str, device: torch.device) -> str:
    """`auto` is bf16 where the hardware computes in it, else fp32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    # Matrix units for bf16 alone make it worth while; emulation would be slower than fp32.
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 matrix products where `precision` says so; parameters and optimizer stay in fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _loss(outputs: Tensor, targets: Tensor, kind: str) -> Tensor:
    if kind == "regression":
        return functional.mse_loss(outputs[:, 0], targets)
    return functional.cross_entropy(outputs, targets)


def target_scale(task: EncodedTask) -> tuple[float, float]:
    """Mean and deviation of regression targets: the head learns standardised ones, whatever their unit."""
    if task.kind != "regression":
        return 0.0, 1.0
    return float(task.train_targets.mean()), float(task.train_targets.std()) or 1.0


def _training_targets(task: EncodedTask, mean: float, std: float) -> Tensor:
    if task.kind == "regression":
        return torch.from_numpy((task.train_targets - mean) / std).float()
    return torch.from_numpy(task.train_targets.copy()).long()


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix(f"{prefix}."): tensor
        for key, tensor in tensors.items()
        if key.startswith(f"{prefix}.")
    }
