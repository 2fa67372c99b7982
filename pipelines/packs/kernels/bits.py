"""The bits of `SeededDropout`, where a kernel needs them."""

import triton
import triton.language as tl


@triton.jit
def mix(bits):
    bits = bits ^ (bits >> 16)
    bits = bits * 0x7FEB352D
    bits = bits ^ (bits >> 15)
    return bits * -0x7B935975


@triton.jit
def steps(numbers):
    return (numbers + 1) * -0x61C88647


@triton.jit
def kept(row_bits, columns, least):
    """Which elements (rows, columns) stay: two of them share a hash."""
    lanes = mix(row_bits[:, None] + steps(columns >> 1)[None, :])
    halves = tl.where((columns & 1)[None, :] == 0, lanes << 16, lanes) >> 16
    return halves >= least
