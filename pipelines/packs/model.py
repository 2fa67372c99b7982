"""The model of a pack: one frozen encoder, and the trained parts of one or several trials around it."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from pipelines.config import TrainConfig
from pipelines.encoder.architectures import layer_of, layer_paths
from pipelines.encoder.backbone import Backbone
from pipelines.encoder.batches import Batch
from pipelines.packs.bank import SINGLE, ParameterBank
from pipelines.packs.dropout import ATTENTION, MaskSource, SeededDropout
from pipelines.packs.modules import (
    FirstToken,
    Known,
    KnownLayer,
    PackedAdapter,
    PackedNorm,
    ParallelAdapter,
    Places,
)
from pipelines.packs.trained import HEAD, initial_parameters, trained_parts, trained_shapes

# What trials in one pass must have in common: the shape of an adapter but for its width.
_IN_COMMON = ("method", "activation", "adapter_layers", "adapter_norm", "adapter_placement")


@dataclass(frozen=True)
class Occupant:
    """A trial in a pack: its configuration, and its head's width."""

    config: TrainConfig
    outputs: int
    spans: bool = False  # whether the head reads every token


class PackModel(nn.Module):
    """Encoder, pooling and a linear head for each place. Only the bank's parameters have gradients.

    Its frozen parameters *are* the backbone's. Below the lowest layer that any place trains nothing is
    dropped and no gradient flows; where a batch brings that layer's input, those below are not computed.

    Args:
        pooling: "pooler", "cls" or "mean", as `Backbone.pooling` resolves it.

    Raises:
        InputError: a configuration does not fit the backbone.
        ValueError: the occupants cannot share a pass.
    """

    def __init__(self, backbone: Backbone, occupants: Sequence[Occupant], *, pooling: str) -> None:
        super().__init__()
        check_shareable(backbone, occupants)
        self.pooling = pooling
        self.occupants = tuple(occupants)
        self.places = Places(len(occupants))
        self.masks = MaskSource()
        self._known = Known()
        device = next(backbone.model.parameters()).device
        self.bank = ParameterBank(
            [trained_shapes(backbone, one.config, outputs=one.outputs) for one in occupants], device=device
        )
        parts = [trained_parts(backbone, one.config) for one in occupants]
        self.boundary = min(one.first_layer for one in parts)
        self.masks.set_places([one.config.dropout for one in occupants], [one.first_layer for one in parts])
        self.encoder = self._wrap(backbone, any(one.spans for one in occupants))
        self._has_segments = takes_segments(self.encoder)
        for place, own in enumerate(parts):
            for name in self.bank.parameters:
                path, _, kind = name.removeprefix("norm.").rpartition(".")
                if name.startswith("norm.") and path not in own.norms:
                    self.bank.fill(place, name, backbone.model.get_parameter(f"{path}.{kind}"))

    def trained(self, place: int = 0) -> dict[str, Tensor]:
        """A place's trained parameters by name, in the trial's own shapes: views, to read or to write."""
        return self.bank.views(self.bank.values, place)

    def gradients(self, place: int = 0) -> dict[str, Tensor]:
        """Their gradients: views."""
        return self.bank.views(self.bank.gradients, place)

    def load(self, parameters: dict[str, Tensor], place: int = 0) -> None:
        """Give a place its parameters."""
        for name, tensor in self.trained(place).items():
            tensor.copy_(parameters[name])

    def forward(self, batch: Batch) -> list[Tensor]:
        """The heads' outputs in fp32, of each active place: (rows, outputs); of spans (rows, tokens, 2)."""
        self._known.hidden = batch.hidden
        output = self.encoder(**encoder_inputs(batch, segments=self._has_segments))
        hidden: Tensor = output.last_hidden_state  # (places x rows, tokens, d)
        summary = pooled(output, batch.attention_mask, self.pooling)
        active = range(self.places.count) if self.places.only is None else [self.places.only]
        results = []
        for index, place in enumerate(active):
            read = hidden if self.occupants[place].spans else summary
            width = self.occupants[place].outputs
            weight = self.bank.parameters[f"{HEAD}.weight"][place, :width]
            bias = self.bank.parameters[f"{HEAD}.bias"][place, :width]
            results.append(functional.linear(read.chunk(len(active))[index], weight, bias).float())
        return results

    def _wrap(self, backbone: Backbone, spans: bool) -> nn.Module:
        """The encoder's modules anew around the backbone's very tensors, with our modules in their places."""
        architecture = backbone.architecture
        shared = (*backbone.model.parameters(), *backbone.model.buffers())
        encoder = copy.deepcopy(backbone.model, {id(tensor): tensor for tensor in shared})
        if getattr(encoder, "_supports_attention_backend", False):
            encoder.set_attn_implementation(ATTENTION)  # type: ignore[operator]
        layers = layer_paths(architecture, encoder)
        self._put_norms(encoder)
        self._put_weights(encoder)
        self._put_dropout(encoder, layers)
        self._put_adapters(backbone, encoder)
        if (
            architecture.branch_ends
            and self.pooling != "mean"
            and not spans
            and not architecture.shared_layers
        ):
            path = f"{layers[-1]}.{architecture.branch_ends[0]}"
            encoder.set_submodule(path, FirstToken(encoder.get_submodule(path)))
        self._layers = layers[: self.boundary]
        self._lower = [encoder.get_submodule(path) for path in self._layers]
        self._tuples = architecture.tuples
        return encoder

    def use_known_layers(self, known: bool) -> None:
        """Whether batches bring the output of the layers below the boundary, or these are computed."""
        for index, (path, layer) in enumerate(zip(self._layers, self._lower, strict=True)):
            source = self._known if index == len(self._layers) - 1 else None
            self.encoder.set_submodule(
                path, KnownLayer(layer, source, tuples=self._tuples) if known else layer
            )

    def _put_norms(self, encoder: nn.Module) -> None:
        parameters = self.bank.parameters
        for name in parameters:
            if name.startswith("norm.") and name.endswith(".weight"):
                path = name.removeprefix("norm.").removesuffix(".weight")
                norm = encoder.get_submodule(path)
                bias = parameters.get(f"norm.{path}.bias")
                packed = PackedNorm(parameters[name], bias, norm.eps, self.places)  # type: ignore[arg-type]
                encoder.set_submodule(path, packed)

    def _put_weights(self, encoder: nn.Module) -> None:
        for name, parameter in self.bank.parameters.items():
            if name.startswith(SINGLE):
                path, _, kind = name.removeprefix(SINGLE).rpartition(".")
                encoder.get_submodule(path).register_parameter(kind, parameter)

    def _put_dropout(self, encoder: nn.Module, layers: Sequence[str]) -> None:
        """Our dropout wherever the encoder has its own, or would have it at another rate."""
        for site, (path, module) in enumerate(list(encoder.named_modules())):
            at = layer_of(path, layers)
            if isinstance(module, nn.Dropout):
                encoder.set_submodule(path, SeededDropout(module.p, self.masks, site=site, layer=at))
            elif isinstance(own := vars(module).get("attention_dropout"), int | float):
                # ModernBERT's attention keeps its rate as a number ...
                del module.attention_dropout
                module.attention_dropout = SeededDropout(float(own), self.masks, site=site, layer=at)
            elif isinstance(module, nn.Identity) and path.endswith("out_drop"):
                # ... and leaves out the dropout behind it where its rate is 0.
                encoder.set_submodule(path, SeededDropout(0.0, self.masks, site=site, layer=at))

    def _put_adapters(self, backbone: Backbone, encoder: nn.Module) -> None:
        config = self.occupants[0].config  # but for its width, an adapter is the same for all
        parts = [trained_parts(backbone, one.config) for one in self.occupants]
        ends = dict(
            zip(("attention", "feed_forward"), backbone.architecture.branch_ends or ("", ""), strict=True)
        )
        layers = layer_paths(backbone.architecture, encoder)
        for site in dict.fromkeys(site for own in parts for site in own.sites):
            prefix = f"adapter.{site.layer}.{site.place}."
            own = {
                name.removeprefix(prefix): parameter
                for name, parameter in self.bank.parameters.items()
                if name.startswith(prefix)
            }
            adapter = PackedAdapter(
                own, self.places, activation=config.activation, layers=config.adapter_layers
            )
            if config.adapter_placement == "parallel":
                path = f"{layers[site.layer]}.{ends[site.place]}"
                encoder.set_submodule(path, ParallelAdapter(encoder.get_submodule(path), adapter))
            else:
                encoder.set_submodule(site.path, nn.Sequential(encoder.get_submodule(site.path), adapter))


class FrozenModel(nn.Module):
    """The layers below `boundary` alone, as they are in evaluation: hidden states (rows, tokens, d)."""

    def __init__(self, backbone: Backbone, boundary: int) -> None:
        super().__init__()
        architecture = backbone.architecture
        shared = (*backbone.model.parameters(), *backbone.model.buffers())
        self.encoder = copy.deepcopy(backbone.model, {id(tensor): tensor for tensor in shared}).eval()
        layers = layer_paths(architecture, self.encoder)
        self._last = self.encoder.get_submodule(layers[boundary - 1])
        for path in layers[boundary:]:
            passed = KnownLayer(self.encoder.get_submodule(path), None, tuples=architecture.tuples)
            self.encoder.set_submodule(path, passed)
        self._has_segments = takes_segments(self.encoder)

    def forward(self, batch: Batch) -> Tensor:
        found: list[Tensor] = []
        with self._last.register_forward_hook(
            lambda _, __, output: found.append(output[0] if isinstance(output, tuple) else output)
        ):
            self.encoder(**encoder_inputs(batch, segments=self._has_segments))
        return found[-1]


def pooled(output: Any, mask: Tensor, pooling: str) -> Tensor:
    """What a head sees of each text, (rows, d), of an encoder's output and its mask (rows, tokens)."""
    hidden: Tensor = output.last_hidden_state
    if pooling == "pooler":
        known: Tensor = output.pooler_output
        return known
    if pooling == "cls":
        return hidden[:, 0]
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def takes_segments(encoder: nn.Module) -> bool:
    """Whether an encoder knows segments: tokenizers tell them to others too, as BERT's does to DistilBERT."""
    known = "token_type_ids" in signature(encoder.forward).parameters
    return known and getattr(encoder.config, "type_vocab_size", 1) > 1


def encoder_inputs(batch: Batch, *, segments: bool) -> dict[str, Tensor]:
    """What an encoder is called with."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if segments and batch.token_type_ids is not None:
        inputs["token_type_ids"] = batch.token_type_ids
    return inputs


def build_model(
    backbone: Backbone, config: TrainConfig, *, outputs: int, pooling: str, spans: bool = False
) -> PackModel:
    """The model of one trial alone, its parameters as they start."""
    model = PackModel(backbone, [Occupant(config, outputs, spans=spans)], pooling=pooling)
    model.load(initial_parameters(backbone, config, outputs=outputs))
    return model


def check_shareable(backbone: Backbone, occupants: Sequence[Occupant]) -> None:
    """Raise ValueError if trials cannot be computed in one pass of the encoder."""
    first = occupants[0].config
    for one in occupants[1:]:
        other = [name for name in _IN_COMMON if getattr(one.config, name) != getattr(first, name)]
        if first.adapter_norm and one.config.adapter_size != first.adapter_size:
            other.append("adapter_size (with adapter_norm)")
        if other:
            raise ValueError(f"trials that differ in {', '.join(other)} cannot share a pass")
    if len(occupants) > 1 and not can_share(backbone, first):
        raise ValueError(f"trials of {first.method} on {backbone.name!r} cannot share a pass")


def can_share(backbone: Backbone, config: TrainConfig) -> bool:
    """Whether trials such as this can share a pass at all."""
    return backbone.architecture.packs and config.method in ("adapter", "layer_norm")
