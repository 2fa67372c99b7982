"""Layer norms with a scale and a shift for each place, in one pass forward and one backward."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pipelines.packs.layout import TILE

_ROWS = 4  # of a program at once


@triton.jit
def _forward(
    x, out, weight, bias, tiles, means, roots, d, stride, eps,
    SHIFTS: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    place = tl.load(tiles + tl.program_id(0) * ROWS // TOKENS).to(tl.int64)
    columns = tl.arange(0, WIDTH)
    there = columns < d
    at = row[:, None].to(tl.int64) * d + columns[None, :]
    value = tl.load(x + at, mask=there[None, :], other=0.0).to(tl.float32)
    mean = tl.sum(value, 1) / d
    apart = tl.where(there[None, :], value - mean[:, None], 0.0)
    root = 1 / tl.sqrt(tl.sum(apart * apart, 1) / d + eps)
    scaled = (
        apart * root[:, None] * tl.load(weight + place * stride + columns, mask=there, other=0.0)[None, :]
    )
    if SHIFTS:
        scaled += tl.load(bias + place * stride + columns, mask=there, other=0.0)[None, :]
    tl.store(out + at, scaled.to(out.dtype.element_ty), mask=there[None, :])
    tl.store(means + row, mean)
    tl.store(roots + row, root)


@triton.jit
def _backward(
    x, gradient, dx, weight, tiles, means, roots, weight_parts, bias_parts, d, stride,
    TOKENS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    place = tl.load(tiles + tile).to(tl.int64)
    columns = tl.arange(0, WIDTH)
    there = columns < d
    scale = tl.load(weight + place * stride + columns, mask=there, other=0.0)
    weight_sum = tl.zeros([WIDTH], tl.float32)
    bias_sum = tl.zeros([WIDTH], tl.float32)
    for begin in range(0, TOKENS, ROWS):
        row = tile * TOKENS + begin + tl.arange(0, ROWS)
        at = row[:, None].to(tl.int64) * d + columns[None, :]
        value = tl.load(x + at, mask=there[None, :], other=0.0).to(tl.float32)
        back = tl.load(gradient + at, mask=there[None, :], other=0.0).to(tl.float32)
        mean, root = tl.load(means + row), tl.load(roots + row)
        normed = tl.where(there[None, :], (value - mean[:, None]) * root[:, None], 0.0)
        weight_sum += tl.sum(back * normed, 0)
        bias_sum += tl.sum(back, 0)
        back = back * scale[None, :]
        first, second = tl.sum(back, 1) / d, tl.sum(back * normed, 1) / d
        change = (back - first[:, None] - normed * second[:, None]) * root[:, None]
        tl.store(dx + at, change.to(dx.dtype.element_ty), mask=there[None, :])
    part = tile.to(tl.int64) * d + columns
    tl.store(weight_parts + part, weight_sum, mask=there)
    tl.store(bias_parts + part, bias_sum, mask=there)


@triton.jit
def _sum_parts(parts, out, ends, chosen, d, TOKENS: tl.constexpr, COLUMNS: tl.constexpr):
    """The parts of each place's tiles, always in the same order."""
    index = tl.program_id(0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    there = columns < d
    begin = tl.load(ends + index - 1, mask=index > 0, other=0) // TOKENS
    total = tl.zeros([COLUMNS], tl.float32)
    for tile in range(begin, tl.load(ends + index) // TOKENS):
        total += tl.load(parts + tile * d + columns, mask=there, other=0.0)
    tl.store(out + tl.load(chosen + index) * d + columns, total, mask=there)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        tiles: Tensor,
        ends: Tensor,
        chosen: Tensor,
        eps: float,
        dtype: torch.dtype,
    ) -> Tensor:
        x = x.contiguous()
        rows, d = x.numel() // x.shape[-1], x.shape[-1]
        out = torch.empty(x.shape, dtype=dtype, device=x.device)
        means, roots = torch.empty(2, rows, dtype=torch.float32, device=x.device)
        _forward[rows // _ROWS,](
            x, out, weight, weight if bias is None else bias, tiles, means, roots,
            d, weight.stride(0), eps,
            SHIFTS=bias is not None, TOKENS=TILE, ROWS=_ROWS, WIDTH=triton.next_power_of_2(d),
        )  # fmt: skip
        ctx.save_for_backward(x, weight, tiles, ends, chosen, means, roots)
        ctx.shifts = bias is not None
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, tiles, ends, chosen, means, roots = ctx.saved_tensors
        gradient = gradient.contiguous()
        d = x.shape[-1]
        dx = torch.empty_like(x)
        parts = torch.empty(2, len(tiles), d, dtype=torch.float32, device=x.device)
        _backward[len(tiles),](
            x, gradient, dx, weight, tiles, means, roots, *parts, d, weight.stride(0),
            TOKENS=TILE, ROWS=_ROWS, WIDTH=triton.next_power_of_2(d),
        )  # fmt: skip
        found = [sum_parts(part, weight.shape, ends, chosen) for part in (parts if ctx.shifts else parts[:1])]
        return dx, found[0], found[1] if ctx.shifts else None, *(None for _ in range(5))


def sum_parts(parts: Tensor, shape: torch.Size, ends: Tensor, chosen: Tensor) -> Tensor:
    """What parts (tiles, d) are together for each place, of a shape (K, d); 0 for who takes no part."""
    total = torch.zeros(shape, dtype=torch.float32, device=parts.device)
    grid = len(chosen), triton.cdiv(shape[1], 128)
    _sum_parts[grid](parts, total, ends, chosen, shape[1], TOKENS=TILE, COLUMNS=128)
    return total


def norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    tiles: Tensor,
    ends: Tensor,
    chosen: Tensor,
    eps: float,
    dtype: torch.dtype,
) -> Tensor:
    """x (tiles, TILE, d), each token's deviations from its mean over their root mean square, scaled, shifted.

    Args:
        weight, bias: (K, d), columns side by side.
        tiles: the place of each tile.
        ends, chosen: of the places that take part, where their tokens end, and which these are.
        dtype: the result's.
    """
    found: Tensor = _Norm.apply(x, weight, bias, tiles, ends, chosen, eps, dtype)
    return found
