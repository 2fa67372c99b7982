"""A task as trials see it: tokenised for one backbone."""

from dataclasses import dataclass, replace
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

    Targets are what the task's kind makes of its labels (`pipelines.kinds`). `texts` are there for methods
    that read columns by themselves.

    With `folds` there is no validation set of its own: `validation` has the rows of `train`, and `folds` says
    of each row by which of as many models it is scored, the one that was not trained on it.
    """

    name: str
    kind: str  # one of `KINDS`
    metric: str  # the one that chooses
    metrics: tuple[str, ...]  # all that are recorded, `metric` first; (): nothing is scored
    positive: int | None  # for a binary F1: the positive class's index
    labels: tuple[str, ...]  # class names by index; () for a kind without classes
    max_tokens: int
    train: Tokens
    train_targets: NDArray[Any]
    validation: Tokens
    validation_targets: Targets
    notes: tuple[str, ...] = ()  # what the encoding could not keep, for a human
    texts: TaskTexts | None = None
    folds: NDArray[np.int64] | None = None

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

    def in_folds(self, folds: NDArray[np.int64]) -> "EncodedTask":
        """The same with these folds, where training and validation set have the same rows: kept once."""
        texts = self.texts and TaskTexts(self.texts.validation, self.texts.validation, self.texts.framing)
        return replace(self, validation=self.train, folds=folds, texts=texts)

    def fold(self, number: int) -> "EncodedTask":
        """What the model of a fold sees: the other folds' rows to train on, the fold's own to predict.

        It scores nothing: scores are of the rows of all folds together. Tokens lie in this task's own arrays.
        """
        if self.folds is None:
            raise ValueError(f"task {self.name} has no folds")
        train, own = np.flatnonzero(self.folds != number), np.flatnonzero(self.folds == number)
        texts = self.texts
        if texts is not None:
            texts = replace(texts, train=texts.train.take(train), validation=texts.train.take(own))
        return replace(
            self,
            metrics=(),
            train=self.train.take(train),
            train_targets=self.train_targets[train],
            validation=self.train.take(own),
            validation_targets=self.train_targets[own],
            texts=texts,
            folds=None,
        )

    def refitted(self) -> "EncodedTask":
        """What a refit sees: the rows of train and validation to train on, and nothing that scores it."""
        tokens, targets, texts, none = self.train, self.train_targets, self.texts, np.arange(0)
        if self.folds is None:
            rows, more = self.rules.trainable(self.validation_targets)
            if texts is not None:
                fitted = texts.fitted
                if fitted is not None:
                    fitted = np.concatenate([fitted, len(targets) + np.arange(len(more))])
                texts = replace(texts, train=texts.train.followed_by(texts.validation), fitted=fitted)
            tokens = tokens.followed_by(self.validation.take(rows))
            targets = np.concatenate([targets, more])
        if texts is not None:
            texts = replace(texts, validation=texts.train.take(none))
        return replace(
            self,
            metrics=(),
            train=tokens,
            train_targets=targets,
            validation=tokens.take(none),
            validation_targets=targets[none],
            texts=texts,
            folds=None,
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
