"""`SeededDropout` in one pass over what it drops, forward and backward; no mask is kept."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pipelines.packs.kernels.bits import kept, mix, steps

_ROWS = 4  # of a program


@triton.jit
def _drop(
    x, out, keys, call, places, numbers, positions, least, scales, rows, d, tokens,
    HAS_POSITIONS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    real = row < rows
    place = tl.load(places + row // tokens, mask=real, other=0)
    bits = mix(tl.load(keys + place) + tl.load(call))
    bits = mix(bits + steps(tl.load(numbers + row, mask=real, other=0)))
    position = tl.zeros([ROWS], tl.int32)
    if HAS_POSITIONS:
        position = tl.load(positions + row, mask=real, other=0)
    bits = mix(bits + steps(position))
    columns = tl.arange(0, WIDTH)
    at = row[:, None].to(tl.int64) * d + columns[None, :]
    there = real[:, None] & (columns < d)[None, :]
    value = tl.load(x + at, mask=there, other=0.0)
    stays = kept(bits, columns, tl.load(least + place)[:, None].to(tl.int32))
    # As without a kernel: the scale is rounded first, and products with it are.
    scale = tl.load(scales + place).to(value.dtype)
    tl.store(out + at, tl.where(stays, value * scale[:, None], 0.0).to(value.dtype), mask=there)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *where: Tensor | None) -> Tensor:
        ctx.where = where
        return _run(x, where)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (_run(gradient, ctx.where), *(None for _ in ctx.where))


def _run(x: Tensor, where: tuple[Tensor | None, ...]) -> Tensor:
    keys, call, places, numbers, positions, least, scales = where
    x = x.contiguous()
    out = torch.empty_like(x)
    rows, d = x.numel() // x.shape[-1], x.shape[-1]
    _drop[triton.cdiv(rows, _ROWS),](
        x, out, keys, call, places, numbers, numbers if positions is None else positions, least, scales,
        rows, d, x.shape[1],
        HAS_POSITIONS=positions is not None, ROWS=_ROWS, WIDTH=triton.next_power_of_2(d),
    )  # fmt: skip
    return out


def dropout(
    x: Tensor,
    keys: Tensor,
    call: Tensor,
    places: Tensor,
    numbers: Tensor,
    positions: Tensor | None,
    least: Tensor,
    scales: Tensor,
) -> Tensor:
    """x (lines, tokens, d) without what its mask drops.

    Args:
        keys: of each place, int32; `call` (1,) is added to them.
        places: of each line.
        numbers, positions: of each token, int32; no positions: all are 0.
        least, scales: of each place: the least bits that stay, int16, and what these are scaled by.
    """
    found: Tensor = _Dropout.apply(x, keys, call, places, numbers, positions, least, scales)
    return found
