"""Attention of the flat layout on a GPU, in Triton: no scores in memory, no padding, and our own dropout.

The algorithm is FlashAttention-2's (Dao 2023, https://arxiv.org/abs/2307.08691): softmax over blocks of keys
with a running maximum, and in the backward pass probabilities made anew from each row's log of sums. A text's
tokens lie side by side, so that each attends to its own; the bits of `SeededDropout` are made where they are
needed. `packs.attention` without this module computes the same, with scores in memory.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pipelines.packs.kernels.bits import kept, mix, steps
from pipelines.packs.layout import Segments

_LOG2E = 1.4426950408889634


@triton.jit
def _near(first, length, window, WINDOW: tl.constexpr, B: tl.constexpr):
    """Where the blocks begin and end that a block of tokens from `first` on sees, and is seen by."""
    low, high = 0, length
    if WINDOW:
        low = tl.maximum(first - window, 0) // B * B
        high = tl.minimum(first + B + window, length)
    return low, high


@triton.jit
def _terms(terms, head, rows, columns, reach):
    """What is added to scores, by how far apart two tokens are."""
    apart = columns[None, :] - rows[:, None]
    apart = tl.minimum(tl.maximum(apart, -reach), reach)
    return tl.load(terms + head * (2 * reach + 1) + reach + apart)


@triton.jit
def _loaded(start, offsets, dims, real, token_stride, D: tl.constexpr):
    at = start + offsets[:, None].to(tl.int64) * token_stride + dims[None, :]
    return tl.load(at, mask=real[:, None] & (dims < D)[None, :], other=0.0)


@triton.jit
def _stored(start, offsets, dims, real, token_stride, values, D: tl.constexpr):
    at = start + offsets[:, None].to(tl.int64) * token_stride + dims[None, :]
    tl.store(at, values.to(start.dtype.element_ty), mask=real[:, None] & (dims < D)[None, :])


@triton.jit
def _forward(
    q, k, v, out, sums, starts, lengths, bits, least, scales, texts, numbers, terms,
    q_stride, k_stride, v_stride, scaling, heads, window, reach, TERMS: tl.constexpr,
    D: tl.constexpr, WIDTH: tl.constexpr, DROPS: tl.constexpr, WINDOW: tl.constexpr, B: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    text = tl.load(texts + tl.program_id(0))
    start, length = tl.load(starts + text), tl.load(lengths + text)
    rows = tl.load(numbers + tl.program_id(0)) * B + tl.arange(0, B)
    dims = tl.arange(0, WIDTH)
    real = rows < length
    query = _loaded(q + head * D, start + rows, dims, real, q_stride, D)
    if DROPS:
        row_bits = mix(mix(tl.load(bits + text) + steps(head)) + steps(rows))
        at_least, scale = tl.load(least + text), tl.load(scales + text)
    top = tl.full([B], float("-inf"), tl.float32)
    total = tl.zeros([B], tl.float32)
    mixed = tl.zeros([B, WIDTH], tl.float32)
    low, high = _near(tl.load(numbers + tl.program_id(0)) * B, length, window, WINDOW, B)
    for begin in range(low, high, B):
        columns = begin + tl.arange(0, B)
        there = columns < length
        key = _loaded(k + head * D, start + columns, dims, there, k_stride, D)
        value = _loaded(v + head * D, start + columns, dims, there, v_stride, D)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * scaling
        if TERMS:
            scores += _terms(terms, head, rows, columns, reach)
        seen = there[None, :]
        if WINDOW:
            apart = rows[:, None] - columns[None, :]
            seen = seen & (apart <= window) & (apart >= -window)
        scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        safe = tl.where(higher == float("-inf"), 0.0, higher)
        weights = tl.exp2(scores - safe[:, None])
        shrink = tl.exp2(top - safe)
        total = total * shrink + tl.sum(weights, 1)
        if DROPS:
            weights = tl.where(kept(row_bits, columns, at_least), weights * scale, 0.0)
        mixed = mixed * shrink[:, None]
        mixed += tl.dot(weights.to(value.dtype), value, input_precision=PRECISION)
        top = higher
    _stored(out + head * D, start + rows, dims, real, heads * D, mixed / total[:, None], D)
    tl.store(sums + (start + rows) * heads + head, top + tl.log2(total), mask=real)


@triton.jit
def _backward_query(
    q, k, v, out, sums, gradient, dq, starts, lengths, bits, least, scales, texts, numbers, terms,
    q_stride, k_stride, v_stride, gradient_stride, factor, scaling, heads, window, reach, TERMS: tl.constexpr,
    D: tl.constexpr, WIDTH: tl.constexpr, DROPS: tl.constexpr, WINDOW: tl.constexpr, B: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    text = tl.load(texts + tl.program_id(0))
    start, length = tl.load(starts + text), tl.load(lengths + text)
    if length <= B:  # `_backward_key` does all of a text of one block
        return
    rows = tl.load(numbers + tl.program_id(0)) * B + tl.arange(0, B)
    dims = tl.arange(0, WIDTH)
    real = rows < length
    query = _loaded(q + head * D, start + rows, dims, real, q_stride, D)
    back = _loaded(gradient + head * D, start + rows, dims, real, gradient_stride, D)
    found = _loaded(out + head * D, start + rows, dims, real, heads * D, D)
    delta = tl.sum(found.to(tl.float32) * back.to(tl.float32), 1)
    lines = tl.load(sums + (start + rows) * heads + head, mask=real, other=float("inf"))
    if DROPS:
        row_bits = mix(mix(tl.load(bits + text) + steps(head)) + steps(rows))
        at_least, scale = tl.load(least + text), tl.load(scales + text)
    result = tl.zeros([B, WIDTH], tl.float32)
    low, high = _near(tl.load(numbers + tl.program_id(0)) * B, length, window, WINDOW, B)
    for begin in range(low, high, B):
        columns = begin + tl.arange(0, B)
        there = columns < length
        key = _loaded(k + head * D, start + columns, dims, there, k_stride, D)
        value = _loaded(v + head * D, start + columns, dims, there, v_stride, D)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * scaling
        if TERMS:
            scores += _terms(terms, head, rows, columns, reach)
        seen = there[None, :]
        if WINDOW:
            apart = rows[:, None] - columns[None, :]
            seen = seen & (apart <= window) & (apart >= -window)
        weights = tl.where(seen, tl.exp2(scores - lines[:, None]), 0.0)
        change = tl.dot(back, tl.trans(value), input_precision=PRECISION)
        if DROPS:
            change = tl.where(kept(row_bits, columns, at_least), change * scale, 0.0)
        change = weights * (change - delta[:, None])
        result += tl.dot(change.to(key.dtype), key, input_precision=PRECISION)
    _stored(dq + head * D, start + rows, dims, real, heads * D, result * factor, D)


@triton.jit
def _backward_key(
    q, k, v, out, sums, gradient, dq, dk, dv, starts, lengths, bits, least, scales, texts, numbers, terms,
    q_stride, k_stride, v_stride, gradient_stride, factor, scaling, heads, window, reach, TERMS: tl.constexpr,
    D: tl.constexpr, WIDTH: tl.constexpr, DROPS: tl.constexpr, WINDOW: tl.constexpr, B: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    text = tl.load(texts + tl.program_id(0))
    start, length = tl.load(starts + text), tl.load(lengths + text)
    columns = tl.load(numbers + tl.program_id(0)) * B + tl.arange(0, B)
    dims = tl.arange(0, WIDTH)
    there = columns < length
    key = _loaded(k + head * D, start + columns, dims, there, k_stride, D)
    value = _loaded(v + head * D, start + columns, dims, there, v_stride, D)
    if DROPS:
        head_bits = mix(tl.load(bits + text) + steps(head))
        at_least, scale = tl.load(least + text), tl.load(scales + text)
    key_result = tl.zeros([B, WIDTH], tl.float32)
    value_result = tl.zeros([B, WIDTH], tl.float32)
    low, high = _near(tl.load(numbers + tl.program_id(0)) * B, length, window, WINDOW, B)
    for begin in range(low, high, B):
        rows = begin + tl.arange(0, B)
        real = rows < length
        query = _loaded(q + head * D, start + rows, dims, real, q_stride, D)
        back = _loaded(gradient + head * D, start + rows, dims, real, gradient_stride, D)
        lines = tl.load(sums + (start + rows) * heads + head, mask=real, other=float("inf"))
        found = _loaded(out + head * D, start + rows, dims, real, heads * D, D)
        delta = tl.sum(found.to(tl.float32) * back.to(tl.float32), 1)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * scaling
        if TERMS:
            scores += _terms(terms, head, rows, columns, reach)
        seen = there[None, :] & real[:, None]
        if WINDOW:
            apart = rows[:, None] - columns[None, :]
            seen = seen & (apart <= window) & (apart >= -window)
        weights = tl.where(seen, tl.exp2(scores - lines[:, None]), 0.0)
        change = tl.dot(back, tl.trans(value), input_precision=PRECISION)
        dropped = weights
        if DROPS:
            stays = kept(mix(head_bits + steps(rows)), columns, at_least)
            dropped = tl.where(stays, weights * scale, 0.0)
            change = tl.where(stays, change * scale, 0.0)
        value_result += tl.dot(tl.trans(dropped.to(back.dtype)), back, input_precision=PRECISION)
        change = weights * (change - delta[:, None])
        key_result += tl.dot(tl.trans(change.to(query.dtype)), query, input_precision=PRECISION)
        if length <= B:
            query_result = tl.dot(change.to(key.dtype), key, input_precision=PRECISION)
            _stored(dq + head * D, start + rows, dims, real, heads * D, query_result * factor, D)
    _stored(dk + head * D, start + columns, dims, there, heads * D, key_result * factor, D)
    _stored(dv + head * D, start + columns, dims, there, heads * D, value_result, D)


def attention(
    parts: tuple[Tensor, ...],
    segments: Segments,
    mask: tuple[Tensor, Tensor, Tensor] | None,
    scaling: float,
    window: int | None,
    terms: Tensor | None = None,
) -> Tensor:
    """Each token's mix of the values of its own text.

    Args:
        parts: queries, keys and values, each (tokens, heads, width); the result is of the values' type.
        mask: what `SeededDropout.of` gives; None: nothing is dropped.
        window: how far tokens see; None: their whole text.
        terms: as `packs.attention` has them; frozen.
    """
    mixed: Tensor = _Attention.apply(
        *(_dense(x.to(parts[2].dtype)) for x in parts),
        *(segments, mask, scaling, -1 if window is None else window),
        None if terms is None else (terms.detach().float() * _LOG2E).contiguous(),
    )
    return mixed


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        segments: Segments,
        mask: tuple[Tensor, Tensor, Tensor] | None,
        scaling: float,
        window: int,
        terms: Tensor | None,
    ) -> Tensor:
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        sums = torch.empty(q.shape[:2], dtype=torch.float32, device=q.device)
        ctx.save_for_backward(q, k, v, out, sums)
        ctx.where, ctx.grid = _where(segments, mask, terms), (len(segments.blocks), q.shape[1])
        ctx.scaling, ctx.constants = scaling, _constants(q, segments.block, window, mask is not None)
        reach = 0 if terms is None else terms.shape[1] // 2
        ctx.numbers = (scaling * _LOG2E, q.shape[1], window, reach, terms is not None)
        strides = (q.stride(0), k.stride(0), v.stride(0))
        _forward[ctx.grid](q, k, v, out, sums, *ctx.where, *strides, *ctx.numbers, **ctx.constants)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, sums = ctx.saved_tensors
        gradient = _dense(gradient)
        dq, dk, dv = (torch.empty(q.shape, dtype=q.dtype, device=q.device) for _ in range(3))
        strides = (q.stride(0), k.stride(0), v.stride(0), gradient.stride(0))
        rest = (*ctx.where, *strides, ctx.scaling, *ctx.numbers)
        _backward_query[ctx.grid](q, k, v, out, sums, gradient, dq, *rest, **ctx.constants)
        _backward_key[ctx.grid](q, k, v, out, sums, gradient, dq, dk, dv, *rest, **ctx.constants)
        return dq, dk, dv, *(None for _ in range(5))


def _where(
    segments: Segments, mask: tuple[Tensor, Tensor, Tensor] | None, terms: Tensor | None
) -> tuple[Tensor, ...]:
    bits, least, scales = mask or (segments.lengths,) * 3
    return (
        *(segments.starts, segments.lengths, bits, least, scales),
        *(segments.blocks, segments.block_numbers),
        segments.lengths if terms is None else terms,
    )


def _constants(q: Tensor, block: int, window: int, drops: bool) -> dict[str, object]:
    return {
        "D": q.shape[2],
        "WIDTH": max(16, triton.next_power_of_2(q.shape[2])),
        "DROPS": drops,
        "WINDOW": window >= 0,
        "B": block,
        "num_warps": 8 if block > 64 else 4,
        "num_stages": 1 if block > 64 else 2,
        "PRECISION": "ieee" if q.dtype == torch.float32 else "tf32",  # which half precision ignores
    }


def _dense(x: Tensor) -> Tensor:
    """x (tokens, heads, width) with the heads of a token side by side."""
    return x if x.stride(2) == 1 and x.stride(1) == x.shape[2] else x.contiguous()
