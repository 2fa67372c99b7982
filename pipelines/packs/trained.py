"""Which parameters train, as a method of the encoder says it; and what they start from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pipelines.config import EncoderConfig
from pipelines.encoder.architectures import BELOW, layer_paths, norm_paths
from pipelines.encoder.backbone import Backbone
from pipelines.errors import InputError
from pipelines.method import find_method
from pipelines.packs.bank import SINGLE, Shape
from pipelines.packs.layout import Current

HEAD_STD = 0.02  # of the head's initial weights, as in BERT
HEAD = "head"


@dataclass(frozen=True)
class Insert(ABC):
    """A small trained module of a method that is put into the encoder, around one of its modules.

    Attributes:
        name: what its parameters' names begin with, in checkpoints and bundles too.
        layer: the one that it lies in; 0 is the encoder's lowest.
        path: the module of the encoder that it stands at.
    """

    name: str
    layer: int
    path: str

    @abstractmethod
    def start(self, generator: torch.Generator | None) -> nn.Module:
        """The module by itself, its parameters as they start."""

    @abstractmethod
    def packed(self, host: nn.Module, parameters: Mapping[str, nn.Parameter], current: Current) -> nn.Module:
        """What takes the host's place in a pack.

        Args:
            parameters: by the names that they have in `start`, each (K, ...) for K trials, padded with zeros
                to the largest trial's; that must change nothing.
        """


@dataclass(frozen=True)
class Trained:
    """What of a backbone trains with a configuration, beside the head.

    Attributes:
        first_layer: below it nothing trains, and the network is as in evaluation; 0: everything may train.
        norms: the paths of trained layer norms.
        inserts: what is put into the encoder.
        weights: the paths of the other trained parameters of the encoder itself. Trials that have some never
            share a pass.
        in_common: parameters in which trials of one pass must agree, beside the method.
    """

    first_layer: int
    norms: tuple[str, ...] = ()
    inserts: tuple[Insert, ...] = ()
    weights: tuple[str, ...] = ()
    in_common: Mapping[str, object] = field(default_factory=dict)


@runtime_checkable
class TrainsParts(Protocol):
    """What a row of the table has whose trials are trained here."""

    def parts(self, backbone: Backbone, config: EncoderConfig) -> Trained: ...


def trained_parts(backbone: Backbone, config: EncoderConfig) -> Trained:
    """Which parts train, as the row of the configuration's method has it.

    Raises:
        InputError: the backbone does not have these parts; the method is none of the encoder.
    """
    depth = len(layer_paths(backbone.architecture, backbone.model))
    if config.first_layer >= depth:
        rule = f"backbone {backbone.name!r} has {depth} distinct layers"
        fix = f"Write 0 to {depth - 1}; 0 is the lowest."
        raise InputError("first_layer", config.first_layer, rule, fix)
    if config.first_layer and backbone.architecture.shared_layers:
        rule = "its layers share their weights"
        raise InputError("first_layer", config.first_layer, rule, "Leave first_layer out.")
    row = find_method(config.method)
    if not isinstance(row, TrainsParts):
        rule = "it trains nothing in an encoder"
        raise InputError("method", config.method, rule, "Make its training with its row of the table.")
    return row.parts(backbone, config)


def trained_norms(backbone: Backbone, first: int) -> tuple[str, ...]:
    """The paths of all layer norms from layer `first` up, those of the embeddings too where it is 0."""
    paths = norm_paths(backbone.architecture, backbone.model)
    return tuple(path for path, layer in paths.items() if is_at_or_above(layer, first))


def is_at_or_above(layer: int, first: int) -> bool:
    """Whether a layer, as `architectures.layer_of` counts, lies at `first` or above; all do where it is 0."""
    return layer >= first or (layer == BELOW and first == 0)


def trained_shapes(backbone: Backbone, config: EncoderConfig, *, outputs: int) -> dict[str, Shape]:
    """The trained parameters by name: layer norms `norm.PATH.…`, inserts by theirs (an adapter's are
    `adapter.LAYER.BRANCH.…`), other weights of the encoder `weight.PATH`, the head `head.…`. Names do not
    depend on how the encoder is wrapped.

    Args:
        outputs: the head's width.
    """
    with torch.device("meta"), _Unfilled():
        return {name: tuple(tensor.shape) for name, tensor in _parameters(backbone, config, outputs)}


class _Unfilled(TorchFunctionMode):
    """No tensor is filled with values, which on the meta device costs seconds and gives nothing to read."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        in_place = func.__name__.endswith("_") and not func.__name__.endswith("__")
        return next(iter((*args, *named.values()))) if in_place else func(*args, **named)


def count_trained(backbone: Backbone, config: EncoderConfig, *, outputs: int) -> int:
    """How many parameters train."""
    return sum(
        torch.Size(shape).numel() for shape in trained_shapes(backbone, config, outputs=outputs).values()
    )


def initial_parameters(backbone: Backbone, config: EncoderConfig, *, outputs: int) -> dict[str, Tensor]:
    """The trained parameters as they start, fp32 on the CPU: a function of backbone and configuration."""
    return {
        name: tensor.detach().float().cpu().clone() for name, tensor in _parameters(backbone, config, outputs)
    }


def _parameters(backbone: Backbone, config: EncoderConfig, outputs: int) -> list[tuple[str, Tensor]]:
    on_meta = torch.get_default_device().type == "meta"
    generator = None if on_meta else torch.Generator().manual_seed(config.seed)
    parts = trained_parts(backbone, config)
    named: list[tuple[str, Tensor]] = []
    for path in parts.norms:
        norm = backbone.model.get_submodule(path)
        named += [(f"norm.{path}.{name}", tensor) for name, tensor in norm.named_parameters()]
    for insert in parts.inserts:
        module = insert.start(generator)
        named += [(f"{insert.name}.{name}", tensor) for name, tensor in module.named_parameters()]
    named += [(f"{SINGLE}{path}", backbone.model.get_parameter(path)) for path in parts.weights]
    head = nn.Linear(backbone.width, outputs)
    nn.init.normal_(head.weight, std=HEAD_STD, generator=generator)
    nn.init.zeros_(head.bias)
    return named + [(f"{HEAD}.{name}", tensor) for name, tensor in head.named_parameters()]
