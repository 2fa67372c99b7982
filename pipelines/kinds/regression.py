"""Texts, or pairs of them, and a number for each."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import InputError, raise_problems
from pipelines.kinds.labelled import Labelled
from pipelines.tasks.kind import Answer, Scale
from pipelines.tasks.labelled_rows import Examples, number_problems, row_problems, spread_problems
from pipelines.tasks.readers import Table
from pipelines.tasks.task import Source, Task

if TYPE_CHECKING:
    from torch import Tensor


class Regression(Labelled):
    """Learned by the squared error; targets are numbers (rows,), the one output a standardised number."""

    name = "regression"

    def row_problems(self, table: Table, task: Task, source: Source) -> list[InputError]:
        return row_problems(table, task, source) or number_problems(table, source)

    def settle(
        self, splits: dict[str, Examples], task: Task, labels: tuple[str, ...], notes: list[str]
    ) -> None:
        super().settle(splits, task, labels, notes)
        raise_problems(spread_problems(splits, task))

    def outputs(self, labels: tuple[str, ...]) -> int:
        return 1

    def scale(self, train_targets: NDArray[Any]) -> Scale:
        """Mean and deviation: the head learns standardised targets, whatever their unit."""
        return Scale(float(train_targets.mean()), float(train_targets.std()) or 1.0)

    def loss_targets(self, targets: NDArray[Any], scale: Scale) -> "Tensor":
        import torch

        return torch.from_numpy((targets - scale.mean) / scale.std).float()

    def loss(self, outputs: "Tensor", targets: "Tensor", lengths: "Tensor | None" = None) -> "Tensor":
        from torch.nn.functional import mse_loss

        return mse_loss(outputs[:, 0], targets)

    def losses(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        from torch.nn.functional import mse_loss

        return mse_loss(outputs[..., 0], targets, reduction="none").mean(1)

    def view(self, of: str, outputs: NDArray[np.float64], targets: Any, scale: Scale) -> NDArray[Any]:
        return {"numbers": outputs[:, 0] * scale.std + scale.mean}[of]

    def answers(
        self, outputs: NDArray[np.float64], targets: Any, labels: tuple[str, ...], scale: Scale
    ) -> list[Answer]:
        return [(float(row[0]) * scale.std + scale.mean, {}) for row in outputs]

    def describe(self, labels: tuple[str, ...]) -> str:
        return "Predicts a number."
