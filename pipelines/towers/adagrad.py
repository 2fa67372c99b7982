"""Adagrad (Duchi et al. 2011) over dense parameters and over the rows of tables that a batch has."""

from collections.abc import Mapping

import torch
from torch import Tensor

FIRST_SUM = 0.1  # of squared gradients, as in TensorFlow: from 0 every first step would be a whole rate long


class Adagrad:
    """Each element's rate is divided by the root of the sum of its squared gradients.

    A row that a batch does not have gets no gradient, and Adagrad leaves an element without one where it is:
    to touch the batch's rows alone is exact. Only a penalty is not: a row is pulled when it comes up.

    Args:
        sums: of squared gradients by parameter, where a training goes on.
    """

    def __init__(self, parameters: Mapping[str, Tensor], sums: Mapping[str, Tensor] | None = None) -> None:
        self._parameters = parameters
        given = sums or {}
        self.sums = {
            name: given[name].clone() if name in given else torch.full_like(parameter, FIRST_SUM)
            for name, parameter in parameters.items()
        }

    @torch.no_grad()
    def step(
        self, name: str, gradient: Tensor, *, rate: float, penalty: float = 0.0, rows: Tensor | None = None
    ) -> None:
        """Move a parameter, or some distinct rows of it.

        Args:
            penalty: times half the squared norm of what is moved, added to the loss.
        """
        parameter, sums = self._parameters[name], self.sums[name]
        value, total = (parameter, sums) if rows is None else (parameter[rows], sums[rows])
        if penalty:
            gradient = gradient + penalty * value
        total.addcmul_(gradient, gradient)
        value.addcdiv_(gradient, total.sqrt(), value=-rate)
        if rows is not None:
            parameter[rows] = value
            sums[rows] = total
