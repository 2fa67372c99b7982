"""Texts, or pairs of them, and one class for each."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import raise_problems
from pipelines.kinds.labelled import Labelled
from pipelines.tasks.cuts import Indices
from pipelines.tasks.kind import Answer, Scale
from pipelines.tasks.labelled_rows import Examples, choice_problems, class_problems, missing_classes
from pipelines.tasks.labels import odd_names, unify_numbers
from pipelines.tasks.readers import Table
from pipelines.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor


class Classification(Labelled):
    """Learned by cross entropy; targets are class indices (rows,), outputs a logit for each class."""

    name = "classification"
    classes = True

    def reconcile(self, tables: dict[str, Table], notes: list[str]) -> dict[str, Table]:
        unified = unify_numbers(tables, notes)
        notes += odd_names(unified)
        return unified

    def settle(
        self, splits: dict[str, Examples], task: Task, labels: tuple[str, ...], notes: list[str]
    ) -> None:
        super().settle(splits, task, labels, notes)
        notes += missing_classes(splits, labels)
        raise_problems(choice_problems(splits["validation"], task, labels))

    def class_names(self, tables: Mapping[str, Table], task: Task) -> tuple[str, ...]:
        labels = tuple(sorted({str(label) for table in tables.values() for label in table.labels}))
        raise_problems(class_problems(tables, task, labels))
        return labels

    def strata(self, split: Examples) -> list[Indices]:
        return [np.flatnonzero(split.labels == label) for label in np.unique(split.labels)]

    def outputs(self, labels: tuple[str, ...]) -> int:
        return len(labels)

    def loss_targets(self, targets: NDArray[Any], scale: Scale) -> "Tensor":
        import torch

        return torch.from_numpy(targets.copy()).long()

    def loss(self, outputs: "Tensor", targets: "Tensor", lengths: "Tensor | None" = None) -> "Tensor":
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs, targets)

    def losses(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        from torch.nn.functional import cross_entropy

        of_rows = cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
        return of_rows.view(targets.shape).mean(1)

    def constant_outputs(self, train_targets: NDArray[Any], outputs: int) -> NDArray[np.float64]:
        counts = np.bincount(train_targets, minlength=outputs)
        return np.asarray(np.log(np.maximum(counts, 1e-3) / counts.sum()))

    def view(self, of: str, outputs: NDArray[np.float64], targets: Any, scale: Scale) -> NDArray[Any]:
        views = {"labels": _labels, "probabilities": _probabilities}
        return views[of](outputs)

    def answers(
        self, outputs: NDArray[np.float64], targets: Any, labels: tuple[str, ...], scale: Scale
    ) -> list[Answer]:
        return [
            (
                labels[int(row.argmax())],
                {label: float(probability) for label, probability in zip(labels, row, strict=True)},
            )
            for row in _probabilities(outputs)
        ]

    def describe(self, labels: tuple[str, ...]) -> str:
        return f"Labels: {', '.join(labels)}."


def _labels(outputs: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.asarray(outputs.argmax(axis=1))


def _probabilities(outputs: NDArray[np.float64]) -> NDArray[Any]:
    exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
