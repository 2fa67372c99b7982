"""The mean over each text's tokens, where they lie."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_TOKENS, _COLUMNS = 32, 128  # of a program at once


@triton.jit
def _forward(x, out, first, lengths, d, TOKENS: tl.constexpr, COLUMNS: tl.constexpr):
    text = tl.program_id(0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    start, length = tl.load(first + text), tl.load(lengths + text)
    total = tl.zeros([COLUMNS], tl.float32)
    for begin in range(0, length, TOKENS):
        tokens = begin + tl.arange(0, TOKENS)
        there = (tokens < length)[:, None] & (columns < d)[None, :]
        at = (start + tokens)[:, None].to(tl.int64) * d + columns[None, :]
        total += tl.sum(tl.load(x + at, mask=there, other=0.0).to(tl.float32), 0)
    tl.store(out + text * d + columns, (total / length).to(out.dtype.element_ty), mask=columns < d)


@triton.jit
def _backward(
    gradient, dx, lengths, whose, tokens, d, TOKENS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    text = tl.load(whose + token, mask=token < tokens, other=-1)
    real = text >= 0
    there = real[:, None] & (columns < d)[None, :]
    value = tl.load(gradient + text[:, None] * d + columns[None, :], mask=there, other=0.0).to(tl.float32)
    length = tl.load(lengths + text, mask=real, other=1)
    at = token[:, None].to(tl.int64) * d + columns[None, :]
    inside = (token < tokens)[:, None] & (columns < d)[None, :]
    tl.store(dx + at, (value / length[:, None]).to(dx.dtype.element_ty), mask=inside)


class _Means(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, lengths: Tensor, whose: Tensor) -> Tensor:
        x = x.contiguous()
        out = torch.empty(len(first), x.shape[1], dtype=x.dtype, device=x.device)
        grid = len(first), triton.cdiv(x.shape[1], _COLUMNS)
        _forward[grid](x, out, first, lengths, x.shape[1], TOKENS=_TOKENS, COLUMNS=_COLUMNS)
        ctx.where, ctx.shape = (lengths, whose), x.shape
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradient.contiguous()
        tokens, d = ctx.shape
        dx = torch.empty(tokens, d, dtype=gradient.dtype, device=gradient.device)
        grid = triton.cdiv(tokens, _TOKENS), triton.cdiv(d, _COLUMNS)
        _backward[grid](gradient, dx, *ctx.where, tokens, d, TOKENS=_TOKENS, COLUMNS=_COLUMNS)
        return dx, None, None, None


def means(x: Tensor, first: Tensor, lengths: Tensor, whose: Tensor) -> Tensor:
    """Of x (tokens, d) the mean of each text, (texts, d).

    Args:
        first, lengths: where each text begins, and how long it is.
        whose: each token's text; -1 for padding. Of equal texts only this one gets a gradient.
    """
    found: Tensor = _Means.apply(x, first, lengths, whose)
    return found
