"""What a kind of task is: how its rows are read and cut, what the head learns of them, and what it answers.

A kind is an object of a class in `pipelines.kinds`; nothing outside that room asks which kind a task has.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import InputError, nearest
from pipelines.metrics import METRICS
from pipelines.tasks.cuts import Cut, Indices, cut_strata

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.encoder.backbone import Backbone
    from pipelines.encoder.tokens import Tokens

# Each kind has types of its own for these; its class names them.
Table: TypeAlias = Any  # a split as it was read: `len` is its rows, `notes` what was done while reading
Split: TypeAlias = Any  # a split as it is learned from: `len` is its rows, `take(rows)` some of them
Targets: TypeAlias = Any  # what a set's outputs are scored against
# These look their kind up here, so that they cannot be imported.
Task: TypeAlias = Any  # pipelines.tasks.task.Task
Source: TypeAlias = Any  # pipelines.tasks.task.Source
Answer = tuple[str | float, Mapping[str, float]]  # the prediction, and the probabilities of its classes


class Scale(NamedTuple):
    """Undoes the standardisation of targets: target = output * std + mean."""

    mean: float = 0.0
    std: float = 1.0

    def to(self, other: "Scale", outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Outputs of this scale as another one has them."""
        return (outputs * self.std + (self.mean - other.mean)) / other.std


class Encoded(NamedTuple):
    """A set as the encoder reads it, what its outputs are compared with, and what the encoding lost."""

    tokens: "Tokens"
    targets: Targets
    notes: tuple[str, ...] = ()


class Kind(ABC):
    """All that depends on the kind of a task.

    Attributes:
        name: as the job file writes it.
        text, label: a task's columns where it names none.
        classes: whether its labels are classes: cuts and samples keep their shares.
        per_token: whether the head gives outputs for every token, not for a text as a whole. Methods without
            an encoder cannot learn such a kind.
    """

    name: str
    text: tuple[str, ...] = ("text",)
    label: str = "label"
    classes: bool = False
    per_token: bool = False

    # Rows: `pipelines.tasks.rows` drives these, in this order.

    def task_problems(self, task: Task) -> list[InputError]:
        """What a task of this kind cannot say; keys are its fields."""
        return []

    @abstractmethod
    def read_file(self, path: str, task: Task, key: str) -> Table:
        """One split out of a file or folder. Raises InputError that names ``key``."""

    @abstractmethod
    def read_hub(self, hub: Any, task: Task, key: str) -> dict[str, Table]:
        """The splits that a `Hub` names, and the task's ``also`` that are there. Raises InputError."""

    @abstractmethod
    def row_problems(self, table: Table, task: Task, source: Source) -> list[InputError]:
        """What is wrong with the rows of one split, which has some."""

    def reconcile(self, tables: dict[str, Table], notes: list[str]) -> dict[str, Table]:
        """The checked splits, with what they write in several ways written in one; notes say what is odd."""
        return tables

    def class_names(self, tables: Mapping[str, Table], task: Task) -> tuple[str, ...]:
        """The names of the classes, sorted; () for a kind without any.

        Raises:
            InputError, InputErrors: what is wrong with the splits together.
        """
        return ()

    @abstractmethod
    def examples(self, table: Table, labels: tuple[str, ...]) -> Split:
        """The split of a table that was checked."""

    def strata(self, split: Split) -> list[Indices]:
        """The rows that each keep their share of a cut or a sample; without classes all rows are one."""
        return [np.arange(len(split))]

    def cut(self, train: Split, counts: Mapping[str, int], seed: int) -> Cut:
        """The rows of train that become the missing splits: so many by split, near enough."""
        return cut_strata(self.strata(train), counts, seed, stratified=self.classes)

    def take(self, split: Split, rows: Indices) -> Split:
        """Some rows of a split, in their order there."""
        return split.take(rows)

    def join(self, first: Split, then: Split) -> Split:
        """The rows of two splits, one after the other."""
        return first.followed_by(then)

    def groups(self, split: Split) -> Sequence[str] | None:
        """The group of each row, where the task names a column of them."""
        return None

    def settle(self, splits: dict[str, Split], task: Task, labels: tuple[str, ...], notes: list[str]) -> None:
        """Leave out, in place, what only whole splits can tell is of no use; say so in the notes.

        Raises:
            InputError: a split that nothing can be learned from, or chosen by.
        """
        return

    def texts(self, split: Split) -> Sequence[tuple[str, ...]]:
        """The texts of a split's rows, for whoever looks at mistakes; none where a kind does not tell."""
        return ()

    @abstractmethod
    def content(self, split: Split) -> list[Any]:
        """A split as JSON, for its fingerprint: whoever changes it has every search refuse to resume."""

    def fingerprint(self, splits: Mapping[str, Split], labels: tuple[str, ...]) -> str:
        """SHA-256 of the rows and the class names."""
        digest = hashlib.sha256(json.dumps(labels).encode())
        for name, split in splits.items():
            digest.update(json.dumps([name, *self.content(split)]).encode())
        return digest.hexdigest()

    # What an encoder reads.

    @abstractmethod
    def encode_training(self, split: Split, backbone: "Backbone", max_tokens: int, task: str) -> Encoded:
        """The training set, with the targets of the loss. Raises InputError for texts of no use."""

    @abstractmethod
    def encode_held_out(self, split: Split, backbone: "Backbone", max_tokens: int) -> Encoded:
        """Another set, with the targets of the scores."""

    @abstractmethod
    def encode_texts(self, rows: Sequence[tuple[str, ...]], backbone: "Backbone", max_tokens: int) -> Encoded:
        """Texts without labels, to be predicted."""

    def check_encoding(self, train: Split, backbone: "Backbone", max_tokens: int, task: str) -> None:
        """Refuse what `encode_training` would, without encoding all of it. Raises InputError."""
        return

    def trainable(self, targets: Targets) -> tuple[Indices, NDArray[Any]]:
        """Of a set that was held out the texts that can be trained on, and the loss's targets for them."""
        return np.arange(len(targets)), targets

    # What the head learns.

    @abstractmethod
    def outputs(self, labels: tuple[str, ...]) -> int:
        """The head's width."""

    def scale(self, train_targets: NDArray[Any]) -> Scale:
        """What undoes the standardisation of the loss's targets."""
        return Scale()

    @abstractmethod
    def loss_targets(self, targets: NDArray[Any], scale: Scale) -> "Tensor":
        """What the loss compares the outputs with, of shape (rows, ...)."""

    @abstractmethod
    def loss(self, outputs: "Tensor", targets: "Tensor", lengths: "Tensor | None" = None) -> "Tensor":
        """The mean loss of a batch.

        Args:
            outputs: (rows, outputs), or (rows, tokens, outputs) where they are of every token.
            lengths: tokens of each row, (rows,); for outputs of every token, the rest of which is padding.
        """

    def losses(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """The mean losses of several models' batches of as many rows, (models,); only of kinds whose outputs
        are of a row.

        Args:
            outputs: (models, rows, outputs).
            targets: (models, rows, ...).
        """
        import torch

        return torch.stack([self.loss(*own) for own in zip(outputs, targets, strict=True)])

    def validation_loss(self, outputs: NDArray[np.float64], targets: Targets, scale: Scale) -> float | None:
        """The loss on the validation set; None where its targets do not tell."""
        import torch

        return self.loss(torch.from_numpy(outputs).float(), self.loss_targets(targets, scale)).item()

    def constant_outputs(self, train_targets: NDArray[Any], outputs: int) -> NDArray[np.float64]:
        """The outputs (outputs,) of who says the same of every text: the most frequent class, the mean."""
        return np.zeros(outputs)

    # What comes out.

    @abstractmethod
    def view(self, of: str, outputs: NDArray[np.float64], targets: Targets, scale: Scale) -> Any:
        """The head's outputs as a metric reads them (`Metric.of`). Raises KeyError for a view it has not."""

    def references(self, targets: Targets) -> Any:
        """What a metric compares with."""
        return targets

    def score(
        self,
        outputs: NDArray[np.float64],
        targets: Targets,
        *,
        metrics: Sequence[str],
        positive: int | None = None,
        scale: Scale | None = None,
    ) -> dict[str, float]:
        """The raw values of some metrics."""
        scale = scale or Scale()
        views = {of: self.view(of, outputs, targets, scale) for of in {METRICS[name].of for name in metrics}}
        references = self.references(targets)
        return {
            name: METRICS[name].score(views[METRICS[name].of], references, positive=positive)
            for name in metrics
        }

    @abstractmethod
    def answers(
        self, outputs: NDArray[np.float64], targets: Targets, labels: tuple[str, ...], scale: Scale
    ) -> list[Answer]:
        """What to tell whoever asks for predictions, text by text; the targets are `encode_texts`'."""

    # Words for the user.

    @abstractmethod
    def describe(self, labels: tuple[str, ...]) -> str:
        """A sentence for the model card: what is predicted."""

    def example(self, columns: int) -> tuple[str, ...]:
        """A text, or a pair of them, as an example of what can be predicted."""
        return ("some text",) if columns == 1 else ("first text", "second text")

    def shorten(self, text: tuple[str, ...]) -> str:
        """A text or a pair on one line, beside its prediction."""
        return " | ".join(text)


KINDS: dict[str, Kind] = {}


def register_kind(kind: Kind) -> Kind:
    """Make a kind known by its name.

    Raises:
        ValueError: the name is taken.
    """
    if kind.name in KINDS:
        raise ValueError(f"kind {kind.name!r} is registered twice; rename one of them")
    KINDS[kind.name] = kind
    return kind


def kind_of(name: str) -> Kind:
    """The kind of this name.

    Raises:
        InputError: there is none; it names the nearest.
    """
    if name not in KINDS:
        raise InputError("kind", name, "not a kind of task", nearest(name, KINDS))
    return KINDS[name]
