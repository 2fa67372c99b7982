"""The end of an adapter: its bias, and what is skipped, in one pass."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pipelines.packs.kernels.norm import sum_parts
from pipelines.packs.layout import TILE

_ROWS = 4  # of a program at once


@triton.jit
def _forward(
    x, skip, out, bias, tiles, d, stride,
    TOKENS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    place = tl.load(tiles + tl.program_id(0) * ROWS // TOKENS).to(tl.int64)
    columns = tl.arange(0, WIDTH)
    there = (columns < d)[None, :]
    at = row[:, None].to(tl.int64) * d + columns[None, :]
    shift = tl.load(bias + place * stride + columns, mask=columns < d, other=0.0)
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32) + shift[None, :]
    value += tl.load(skip + at, mask=there, other=0.0).to(tl.float32)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=there)


@triton.jit
def _sum_tiles(gradient, parts, d, TOKENS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    tile = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    there = columns < d
    total = tl.zeros([WIDTH], tl.float32)
    for begin in range(0, TOKENS, ROWS):
        row = tile * TOKENS + begin + tl.arange(0, ROWS)
        at = row[:, None].to(tl.int64) * d + columns[None, :]
        total += tl.sum(tl.load(gradient + at, mask=there[None, :], other=0.0).to(tl.float32), 0)
    tl.store(parts + tile * d + columns, total, mask=there)


class _AddBiased(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor, skip: Tensor, tiles: Tensor, ends: Tensor, chosen: Tensor
    ) -> Tensor:
        x, skip = x.contiguous(), skip.contiguous()
        rows, d = x.numel() // x.shape[-1], x.shape[-1]
        out = torch.empty_like(skip)
        _forward[rows // _ROWS,](
            x, skip, out, bias, tiles, d, bias.stride(0),
            TOKENS=TILE, ROWS=_ROWS, WIDTH=triton.next_power_of_2(d),
        )  # fmt: skip
        ctx.where, ctx.shape, ctx.types = (len(tiles), ends, chosen), bias.shape, (x.dtype, skip.dtype)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradient.contiguous()
        tiles, ends, chosen = ctx.where
        d = gradient.shape[-1]
        parts = torch.empty(tiles, d, dtype=torch.float32, device=gradient.device)
        _sum_tiles[tiles,](gradient, parts, d, TOKENS=TILE, ROWS=_ROWS, WIDTH=triton.next_power_of_2(d))
        own, skipped = (gradient.to(dtype) for dtype in ctx.types)
        return own, sum_parts(parts, ctx.shape, ends, chosen), skipped, None, None, None


def add_biased(
    x: Tensor, bias: Tensor, skip: Tensor, *, tiles: Tensor, ends: Tensor, chosen: Tensor
) -> Tensor:
    """x and skip (tiles, TILE, d) and each place's bias (K, d) together, of skip's type.

    Args:
        tiles: the place of each tile.
        ends, chosen: of the places that take part, where their tokens end, and which these are.
    """
    found: Tensor = _AddBiased.apply(x, bias, skip, tiles, ends, chosen)
    return found
