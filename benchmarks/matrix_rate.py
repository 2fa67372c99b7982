"""The machine's matrix rate for an encoder layer's products: the floor that a training step cannot beat.

Settings as JSON in (tokens, width, threads, precision), FLOP/s out.
"""

import functools
import json
import sys
import time

import torch

REPEATS = 5


def matrix_rate(
    tokens: int, width: int, precision: str, *, device: str = "cpu", seconds: float = 2.0
) -> float:
    """FLOP/s over the products of one layer, forward and for the input's gradient, the best of `REPEATS`.

    Args:
        tokens: rows of the activations: a batch's padded tokens.
        width: d; the feed-forward's is 4 d.
        seconds: how long to measure in all.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    shapes = [(width, width)] * 4 + [(width, 4 * width), (4 * width, width)]
    new = functools.partial(torch.randn, dtype=dtype, device=device)
    weights = [new(inner, outer) for inner, outer in shapes]
    inputs = [new(tokens, inner) for inner, _ in shapes]
    gradients = [new(tokens, outer) for _, outer in shapes]
    flops = 2 * 2 * tokens * sum(inner * outer for inner, outer in shapes)

    def layers(count: int) -> float:
        """Seconds for so many layers."""
        started = time.perf_counter()
        for _ in range(count):
            layer()
        if device != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter() - started

    def layer() -> None:
        for weight, rows, gradient in zip(weights, inputs, gradients, strict=True):
            torch.mm(rows, weight)
            torch.mm(gradient, weight.T)

    layers(1)
    loops = max(1, int(seconds / REPEATS / layers(1)))
    return flops * loops / min(layers(loops) for _ in range(REPEATS))


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    print(matrix_rate(settings["tokens"], settings["width"], settings["precision"]))
