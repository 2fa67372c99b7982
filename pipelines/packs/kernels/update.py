"""AdamW over all rows of a bank, in one pass."""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

_COLUMNS = 1024  # of a program


@triton.jit
def _update(
    values, gradients, mean, square, shrink, firsts, seconds, rates, decays, size, decayed,
    beta1, beta2, epsilon, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1)
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    there = columns < size
    at = row.to(tl.int64) * size + columns
    rate = tl.load(rates + row)
    gradient = tl.load(gradients + at, mask=there, other=0.0) * tl.load(shrink + row)
    value = tl.load(values + at, mask=there, other=0.0)
    value = tl.where(columns < decayed, value * (1 - rate * tl.load(decays + row)), value)
    first = tl.load(mean + at, mask=there, other=0.0)
    first += (gradient - first) * (1 - beta1)
    second = tl.load(square + at, mask=there, other=0.0) * beta2 + gradient * gradient * (1 - beta2)
    root = tl.sqrt(second / tl.load(seconds + row)) + epsilon
    tl.store(mean + at, first, mask=there)
    tl.store(square + at, second, mask=there)
    tl.store(values + at, value - first / root * (rate / tl.load(firsts + row)), mask=there)
    tl.store(gradients + at, tl.zeros_like(gradient), mask=there)


def update(
    values: Tensor,
    gradients: Tensor,
    mean: Tensor,
    square: Tensor,
    shrink: Tensor,
    columns: Sequence[Tensor],
    *,
    decayed: int,
    betas: tuple[float, float],
    epsilon: float,
) -> None:
    """As `bank.update`."""
    rows, size = values.shape
    _update[triton.cdiv(size, _COLUMNS), rows](
        values, gradients, mean, square, shrink, *columns, size, decayed, *betas, epsilon, COLUMNS=_COLUMNS
    )
