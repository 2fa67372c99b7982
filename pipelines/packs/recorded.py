"""Passes of a pack as CUDA graphs: to start their thousands of kernels one by one takes Python longer than a
GPU needs for them.

A pass is recorded when a batch of the same sizes comes for the second time, and started whole from then on:
what differs between steps lies in one buffer. A trial that comes or goes changes what stands in the model's
tensors, not where they are (`packs.places`), so that recordings serve those who are there now.
"""

import logging
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipelines.encoder.batches import as_floats, send
from pipelines.encoder.precision import autocast
from pipelines.packs.batches import Cargo, unpack
from pipelines.packs.layout import Layout
from pipelines.packs.model import PackModel

log = logging.getLogger(__name__)
MOST_RECORDINGS = 32  # of one model: each is some ten thousand nodes


class Recorder:
    """What a model makes of cargos, in training.

    Attributes:
        records: whether a shape that comes again is recorded; until memory does not suffice.
    """

    def __init__(self, model: PackModel, precision: str, *, records: bool) -> None:
        self._model = model
        self._precision = precision
        self.records = records
        self._device = model.bank.values.device
        self._seen: set[Hashable] = set()
        self._recordings: dict[Hashable, _Recording] = {}
        self._pool: Any = None

    def outputs(self, cargo: Cargo) -> list[Tensor]:
        """The heads' outputs for the texts of each of the cargo's places, ready for a backward pass."""
        summary, hidden, layout = self._encode(cargo)
        with autocast(self._device, self._precision):
            return self._model.heads(summary, hidden, layout)

    def _encode(self, cargo: Cargo) -> tuple[Tensor, Tensor, Layout]:
        sent = send(torch.from_numpy(cargo.flattened()), self._device)
        hidden = None if cargo.hidden is None else send(as_floats(cargo.hidden), self._device)
        recording = self._recording(cargo, sent, hidden)
        if recording is not None:
            return recording.run(sent, hidden)
        return encode(self._model, cargo, sent, hidden, self._precision)

    def _recording(self, cargo: Cargo, sent: Tensor, hidden: Tensor | None) -> "_Recording | None":
        """That of a cargo's shape, which is recorded when it comes for the second time."""
        if not self.records:
            return None
        shape = cargo.shape
        if shape not in self._recordings and shape in self._seen:
            if len(self._recordings) == MOST_RECORDINGS:
                del self._recordings[next(iter(self._recordings))]
            self._record(cargo, sent, hidden)
        self._seen.add(shape)
        found = self._recordings.pop(shape, None)
        if found is not None:
            self._recordings[shape] = found  # the last one used is the last to go
        return found

    def _record(self, cargo: Cargo, sent: Tensor, hidden: Tensor | None) -> None:
        try:
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            self._recordings[cargo.shape] = _Recording(
                self._model, cargo, sent, hidden, self._precision, self._pool
            )
        except RuntimeError as error:  # memory for it, most likely: nothing has been computed yet
            self.records = False
            self._recordings.clear()
            log.warning("a pack's passes are not recorded any more, and slower: %s", error)


class _Recording:
    """A forward and a backward pass of one shape."""

    def __init__(
        self,
        model: PackModel,
        cargo: Cargo,
        sent: Tensor,
        hidden: Tensor | None,
        precision: str,
        pool: Any,
    ) -> None:
        self._sent = sent.clone()
        self._hidden = None if hidden is None else hidden.clone()
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self._anchor = torch.zeros((), device=sent.device, requires_grad=True)
        with torch.cuda.graph(self._forward, pool=pool, capture_error_mode="thread_local"):
            summary, tokens, self._layout = encode(model, cargo, self._sent, self._hidden, precision)
        self._outputs = [summary, tokens] if model.reads_tokens else [summary]
        self._gradients = [torch.zeros_like(output) for output in self._outputs]
        trained = [(one, one.grad) for one in model.bank.parameters.values() if one.grad is not None]
        with torch.cuda.graph(self._backward, pool=pool, capture_error_mode="thread_local"):
            found = torch.autograd.grad(
                self._outputs, [one for one, _ in trained], self._gradients, allow_unused=True
            )
            pairs = [(held, new) for (_, held), new in zip(trained, found, strict=True) if new is not None]
            torch._foreach_add_([held for held, _ in pairs], [new for _, new in pairs])
        self._outputs = [output.detach() for output in self._outputs]

    def run(self, sent: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor, Layout]:
        self._sent.copy_(sent)
        if self._hidden is not None and hidden is not None:
            self._hidden.copy_(hidden)
        summary, *tokens = _Replayed.apply(self._anchor, self)  # type: ignore[no-untyped-call]
        return summary, tokens[0] if tokens else summary, self._layout

    def forward(self) -> tuple[Tensor, ...]:
        self._forward.replay()
        return tuple(output.view_as(output) for output in self._outputs)

    def backward(self, gradients: Sequence[Tensor | None]) -> None:
        for held, new in zip(self._gradients, gradients, strict=True):
            if new is None:
                held.zero_()
            else:
                held.copy_(new)
        self._backward.replay()


class _Replayed(torch.autograd.Function):
    """A recording as an operation: its backward pass adds to the bank's gradients."""

    @staticmethod
    def forward(ctx: Any, _anchor: Tensor, recording: _Recording) -> tuple[Tensor, ...]:
        ctx.recording = recording
        ctx.set_materialize_grads(False)
        return recording.forward()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[None, None]:
        ctx.recording.backward(gradients)
        return None, None


def encode(
    model: PackModel, cargo: Cargo, sent: Tensor, hidden: Tensor | None, precision: str
) -> tuple[Tensor, Tensor, Layout]:
    """What heads read of the texts and tokens of a cargo, with dropout by its keys."""
    batch, layout = unpack(cargo, sent, hidden)
    model.masks.begin(cargo.tensors(sent)["keys"])
    try:
        with autocast(sent.device, precision, caches=False):
            summary, tokens = model.encode(batch, layout)
    finally:
        model.masks.begin(None)
    return summary, tokens, layout
