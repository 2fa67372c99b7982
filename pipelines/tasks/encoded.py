"""A task as trials see it: tokenised for one backbone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.encoder.tokens import TaskTexts, Tokens, check_max_tokens
from pipelines.tasks.kind import Kind, Scale, Targets, kind_of
from pipelines.tasks.rows import TaskData

if TYPE_CHECKING:
    from pipelines.encoder.backbone import Backbone


@dataclass(frozen=True)
class EncodedTask:
    """What a trial sees of a task: training and validation examples; never the test set.

    Targets are what the task's kind makes of its labels (`pipelines.kinds`). `texts` are there for the method
    `embeddings` alone.
    """

    name: str
    kind: str  # one of `KINDS`
    metric: str  # the one that chooses
    metrics: tuple[str, ...]  # all that are recorded, `metric` first
    positive: int | None  # for a binary F1: the positive class's index
    labels: tuple[str, ...]  # class names by index; () for a kind without classes
    max_tokens: int
    train: Tokens
    train_targets: NDArray[Any]
    validation: Tokens
    validation_targets: Targets
    notes: tuple[str, ...] = ()  # what the encoding could not keep, for a human
    texts: TaskTexts | None = None

    @property
    def rules(self) -> Kind:
        """What depends on the task's kind."""
        return kind_of(self.kind)

    @property
    def outputs(self) -> int:
        """The head's width."""
        return self.rules.outputs(self.labels)

    @property
    def scale(self) -> Scale:
        """What undoes the standardisation of the loss's targets."""
        return self.rules.scale(self.train_targets)

    def score(self, outputs: NDArray[np.float64], targets: Targets) -> dict[str, float]:
        """All of the task's metrics, raw, for the head's outputs on a set with these targets."""
        return self.rules.score(
            outputs, targets, metrics=self.metrics, positive=self.positive, scale=self.scale
        )


def encode_task(data: TaskData, backbone: "Backbone", max_tokens: int) -> EncodedTask:
    """Tokenise a task's training and validation sets for one backbone; never the test set.

    Raises:
        InputError: the backbone cannot take texts that long, or the task's kind needs longer ones.
    """
    check_max_tokens(backbone.name, backbone.tokenizer, max_tokens)
    task, kind = data.task, data.rules
    train = kind.encode_training(data.train, backbone, max_tokens, task.name)
    validation = kind.encode_held_out(data.validation, backbone, max_tokens)
    sets = {"train": train, "validation": validation}
    return EncodedTask(
        name=task.name,
        kind=task.kind,
        metric=task.metric,
        metrics=task.recorded_metrics,
        positive=None if task.positive is None else data.labels.index(task.positive),
        labels=data.labels,
        max_tokens=max_tokens,
        train=train.tokens,
        train_targets=train.targets,
        validation=validation.tokens,
        validation_targets=validation.targets,
        notes=tuple(f"{name}: {note}" for name, encoded in sets.items() for note in encoded.notes),
    )


def encode_held_out(
    data: TaskData, backbone: "Backbone", max_tokens: int
) -> dict[str, tuple[Tokens, Targets]]:
    """Tokenise, after selection, what no search has seen, each with what its outputs are scored against.

    Returns the test set as "test", and a task's further labelled sets by their names.
    """
    encoded = {
        name: data.rules.encode_held_out(split, backbone, max_tokens) for name, split in data.held_out.items()
    }
    return {name: (tokens, targets) for name, (tokens, targets, _) in encoded.items()}
