"""Which layers' adapters matter (Houlsby et al. 2019, §3.6, Figure 6): remove them from trained models."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.bundle import AdapterBundle
from pipelines.encoder.architectures import layer_paths
from pipelines.encoder.batches import Batch, collate, evaluation_batches
from pipelines.encoder.precision import autocast, resolve_precision
from pipelines.encoder.tokens import Tokens, encode
from pipelines.errors import InputError
from pipelines.method import METHODS, find_method
from pipelines.packs.adapter import PackedAdapter, ParallelAdapter
from pipelines.packs.model import PackModel
from pipelines.packs.trained import trained_parts

BATCH = 64  # examples
Span = tuple[int, int]  # the first and the last layer without adapters, both included
Branch = tuple[nn.Module, str, nn.Module]  # what holds a branch, its name there, and it without an adapter


@dataclass(frozen=True)
class Ablation:
    """Scores with the adapters of contiguous layers removed, nothing trained again.

    Attributes:
        layers: those that have adapters, lowest first; 0 is the encoder's lowest.
        full: the score with all adapters, as the metric has it.
        scores: by span, first <= last, both of `layers`.
        examples: how many were scored.
    """

    layers: tuple[int, ...]
    full: float
    scores: Mapping[Span, float]
    examples: int


def ablate(
    bundle: AdapterBundle,
    rows: Sequence[tuple[str, ...]],
    score: Callable[[NDArray[np.float64]], float],
    *,
    precision: str = "auto",
) -> Ablation:
    """Score a bundle without the adapters of every contiguous span of layers. Layer norms stay as trained.

    Nothing is computed twice: what lies below a span is the full model's, and a longer span begins as the
    shorter one does. Of L layers with adapters a batch passes (L+1)(L+2)/6 + 1 times through all layers
    instead of L(L+1)/2 + 1 times: 31 of 79 for 12.

    Args:
        rows: texts, or pairs of them.
        score: of the head's outputs (rows, outputs), in the order of `rows`.

    Raises:
        InputError: the bundle has no adapters, or its layers share their weights.
    """
    layers = adapted_layers(bundle)
    tokens = encode(rows, bundle.backbone.tokenizer, bundle.config.max_tokens)
    resolved = resolve_precision(precision, bundle.model.bank.values.device)
    outputs = span_outputs(bundle, tokens, layers, resolved)
    full = score(outputs.pop(None))
    return Ablation(
        layers=layers,
        full=full,
        scores={span: score(found) for span, found in outputs.items() if span is not None},
        examples=len(tokens),
    )


def adapted_layers(bundle: AdapterBundle) -> tuple[int, ...]:
    """The layers that have adapters. Raises InputError as `ablate` does."""
    config, backbone = bundle.config.train, bundle.backbone
    if not find_method(config.method).removable:
        rule = f"its method is {config.method}: there are no adapters to remove"
        known = " or ".join(name for name, method in METHODS.items() if method.removable)
        raise InputError("BUNDLE", bundle.name, rule, f"Give a bundle of the method {known}.")
    if backbone.architecture.shared_layers:
        rule = f"the layers of {backbone.name!r} share their weights, and so their adapters"
        raise InputError("BUNDLE", bundle.name, rule, "Give a bundle of another architecture.")
    inserts = trained_parts(backbone, bundle.model.occupant().config).inserts
    return tuple(sorted({insert.layer for insert in inserts}))


@torch.inference_mode()
def span_outputs(
    bundle: AdapterBundle, tokens: Tokens, layers: Sequence[int], precision: str
) -> dict[Span | None, NDArray[np.float64]]:
    """The head's outputs (n, outputs) for each span, and for None, with all adapters."""
    spans: list[Span] = [(first, last) for first in layers for last in layers if first <= last]
    shape = (len(tokens), bundle.model.occupant().outputs)
    outputs: dict[Span | None, NDArray[np.float64]] = {
        span: np.empty(shape, dtype=np.float64) for span in (None, *spans)
    }
    model = bundle.model.eval()
    device = model.bank.values.device
    with _staged(bundle) as stage:
        for indices in evaluation_batches(tokens.lengths, BATCH):
            batch = collate([(tokens, indices)], pad_id=bundle.backbone.pad_id, device=device)
            with autocast(device, precision):
                for span, found in _span_passes(model, stage, batch, layers):
                    outputs[span][indices] = found.cpu().numpy()
    return outputs


def _span_passes(
    model: PackModel, stage: "_Stage", batch: Batch, layers: Sequence[int]
) -> Iterator[tuple[Span | None, Tensor]]:
    yield None, stage.run(model, batch, first=0)
    full = dict(stage.found)
    for first in layers:
        known = full.get(first - 1)
        for last in (one for one in layers if one >= first):
            with stage.without_adapters(last):
                yield (first, last), stage.run(model, batch, first=last, known=known)
            known = stage.found[last]


class _Stage:
    """The layers of a model, of which a pass computes those from `first` up, and what each of them gave."""

    def __init__(self, branches: Mapping[int, Sequence[Branch]]) -> None:
        self.first = 0
        self.known: Tensor | None = None
        self.found: dict[int, Tensor] = {}
        self._branches = branches

    def run(self, model: PackModel, batch: Batch, *, first: int, known: Tensor | None = None) -> Tensor:
        """The head's outputs (rows, outputs).

        Args:
            known: the output of the layer below `first`.
        """
        self.first, self.known, self.found = first, known, {}
        outputs: list[Tensor] = model(batch)
        return outputs[0]

    @contextmanager
    def without_adapters(self, layer: int) -> Iterator[None]:
        branches = self._branches[layer]
        kept = [getattr(holder, name) for holder, name, _ in branches]
        for holder, name, bare in branches:
            setattr(holder, name, bare)
        try:
            yield
        finally:
            for (holder, name, _), own in zip(branches, kept, strict=True):
                setattr(holder, name, own)


class _StagedLayer(nn.Module):
    """A layer that is passed over where the stage begins above it."""

    def __init__(self, host: nn.Module, index: int, stage: _Stage, *, tuples: bool) -> None:
        super().__init__()
        plain = {name: value for name, value in vars(host).items() if isinstance(value, str)}
        self.__dict__.update(plain)  # ModernBERT's encoder reads each layer's attention_type
        self.host = host
        self._index = index
        self._stage = stage
        self._tuples = tuples

    def forward(self, hidden: Tensor, *args: object, **kwargs: object) -> object:
        stage = self._stage
        if self._index < stage.first:
            if self._index == stage.first - 1 and stage.known is not None:
                hidden = stage.known
            return (hidden, None) if self._tuples else hidden
        output: Tensor | tuple[Tensor, ...] = self.host(hidden, *args, **kwargs)
        stage.found[self._index] = output[0] if isinstance(output, tuple) else output
        return output


@contextmanager
def _staged(bundle: AdapterBundle) -> Iterator[_Stage]:
    """The bundle's model with its layers staged; afterwards it is as it was."""
    encoder, architecture = bundle.model.encoder, bundle.backbone.architecture
    layers = {path: encoder.get_submodule(path) for path in layer_paths(architecture, encoder)}
    stage = _Stage({index: _branches(layer) for index, layer in enumerate(layers.values())})
    for index, (path, layer_module) in enumerate(layers.items()):
        staged = _StagedLayer(layer_module, index, stage, tuples=architecture.tuples)
        encoder.set_submodule(path, staged)
    try:
        yield stage
    finally:
        for path, layer_module in layers.items():
            encoder.set_submodule(path, layer_module)


def _branches(layer: nn.Module) -> list[Branch]:
    found: list[Branch] = []
    for holder in layer.modules():
        for name, module in holder.named_children():
            if isinstance(module, ParallelAdapter):
                found.append((holder, name, module.host))
            elif isinstance(module, nn.Sequential) and isinstance(module[-1], PackedAdapter):
                found.append((holder, name, module[0]))
    return found
