"""The model of a pack: one frozen encoder, and the trained parts of one or several trials around it."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from pipelines.config import EncoderConfig
from pipelines.encoder.architectures import layer_of, layer_paths
from pipelines.encoder.backbone import Backbone
from pipelines.encoder.batches import Batch
from pipelines.encoder.frozen import (
    Known,
    KnownLayer,
    encoder_inputs,
    first_position,
    pooled,
    takes_segments,
)
from pipelines.packs.attention import ATTENTION
from pipelines.packs.bank import SINGLE, ParameterBank, Shape
from pipelines.packs.distances import put_distances
from pipelines.packs.dropout import MaskSource, SeededDropout, rate_at
from pipelines.packs.layout import Current, Layout, make_layout
from pipelines.packs.modules import FirstToken, PackedNorm, by_part, first_tokens, means, tokens_of
from pipelines.packs.relative import put_tables
from pipelines.packs.trained import (
    HEAD,
    Insert,
    Trained,
    initial_parameters,
    trained_parts,
    trained_shapes,
)


@dataclass(frozen=True)
class Occupant:
    """A trial in a pack: its configuration, and its head's width."""

    config: EncoderConfig
    outputs: int
    spans: bool = False  # whether the head reads every token


class PackModel(nn.Module):
    """Encoder, pooling and a linear head for each place. Only the bank's parameters have gradients.

    Its frozen parameters *are* the backbone's. Below the lowest layer that any place trains nothing is
    dropped and no gradient flows; where a batch brings that layer's input, those below are not computed.

    Trials come to places and leave them idle; the tensors stay where they are, so that a recorded pass
    (`packs.recorded`) serves whoever sits there.

    Args:
        occupants: the first places'.
        pooling: "pooler", "cls" or "mean", as `Backbone.pooling` resolves it.
        places: how many; None: as many as occupants.
        room: shapes by name that there is to be room for at least.

    Attributes:
        occupants: each place's; None: it is idle.
        boundary: the lowest layer that any place trains.
        reads_tokens: whether a head may read every token.

    Raises:
        InputError: a configuration does not fit the backbone.
        ValueError: the occupants cannot share a pass.
    """

    def __init__(
        self,
        backbone: Backbone,
        occupants: Sequence[Occupant],
        *,
        pooling: str,
        places: int | None = None,
        room: Mapping[str, Shape] | None = None,
    ) -> None:
        super().__init__()
        check_shareable(backbone, occupants)
        self.pooling = pooling
        self.occupants: list[Occupant | None] = [None] * (places or len(occupants))
        self._first_layers: list[int | None] = [None] * len(self.occupants)
        self.reads_tokens = any(one.spans for one in occupants)
        self.current = Current()
        self.masks = MaskSource(self.current)
        self._backbone = backbone
        self._known = Known()
        self.bank = ParameterBank(
            [trained_shapes(backbone, one.config, outputs=one.outputs) for one in occupants],
            places=len(self.occupants),
            room=room or {},
            device=next(backbone.model.parameters()).device,
        )
        parts = [trained_parts(backbone, one.config) for one in occupants]
        self.boundary = min(one.first_layer for one in parts)
        self.encoder = self._wrap(backbone, occupants, parts)
        self._dropouts = [one for one in self.encoder.modules() if isinstance(one, SeededDropout)]
        self._has_segments = takes_segments(self.encoder)
        self._first_position = first_position(self.encoder)
        for place in range(len(self.occupants)):
            self._sit(place, occupants[place] if place < len(occupants) else None)

    def occupant(self, place: int = 0) -> Occupant:
        """Who has a place."""
        found = self.occupants[place]
        if found is None:
            raise ValueError(f"place {place} is idle")
        return found

    @property
    def idle(self) -> list[int]:
        """The places that nobody has."""
        return [place for place, one in enumerate(self.occupants) if one is None]

    @property
    def first_layer(self) -> int | None:
        """The lowest layer that those train who are there now; None: nobody is."""
        return min((one for one in self._first_layers if one is not None), default=None)

    def fits(self, occupant: Occupant) -> bool:
        """Whether a trial that can share a pass with the others could have an idle place as things are."""
        config = occupant.config
        shapes = trained_shapes(self._backbone, config, outputs=occupant.outputs)
        first = trained_parts(self._backbone, config).first_layer
        lowest = first if self.first_layer is None else min(first, self.first_layer)
        return (
            bool(self.idle)
            and lowest == self.boundary
            and self.reads_tokens >= occupant.spans
            and self.bank.fits(shapes)
            and all(site.drops or not _rate(site, config, first) for site in self._dropouts)
        )

    def seat(self, place: int, occupant: Occupant) -> None:
        """Give a trial an idle place; `load` gives it its parameters."""
        self.bank.take(place, trained_shapes(self._backbone, occupant.config, outputs=occupant.outputs))
        self._sit(place, occupant)

    def vacate(self, place: int) -> None:
        """Leave a place idle: what is computed there is of no meaning, and no gradient comes from it."""
        self.bank.take(place, {})
        self._sit(place, None)

    def _sit(self, place: int, occupant: Occupant | None) -> None:
        self.occupants[place] = occupant
        parts = None if occupant is None else trained_parts(self._backbone, occupant.config)
        self._first_layers[place] = None if parts is None else parts.first_layer
        own = () if parts is None else parts.norms
        for name in self.bank.parameters:
            path, _, kind = name.removeprefix("norm.").rpartition(".")
            if name.startswith("norm.") and path not in own:
                self.bank.fill(place, name, self._backbone.model.get_parameter(f"{path}.{kind}"))
        for site in self._dropouts:
            rate = (
                0.0 if occupant is None or parts is None else _rate(site, occupant.config, parts.first_layer)
            )
            site.set_rate(place, rate)

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

    def forward(self, batch: Batch, layout: Layout | None = None) -> list[Tensor]:
        """The heads' outputs in fp32, of each place of the layout: (texts, outputs); of spans
        (texts, tokens, 2).

        Args:
            layout: None: a padded batch of all places.
        """
        if layout is None:
            places = range(len(self.occupants))
            rows, device = len(batch.input_ids) // len(places), batch.input_ids.device
            layout = make_layout(places, rows, device)
        summary, hidden = self.encode(batch, layout)
        return self.heads(summary, hidden, layout)

    def encode(self, batch: Batch, layout: Layout) -> tuple[Tensor, Tensor]:
        """What heads read of each text, (texts, d), and of each token."""
        self._known.hidden = batch.hidden
        self.current.layout = layout
        output = self.encoder(
            **encoder_inputs(batch, segments=self._has_segments, first_position=self._first_position)
        )
        self.current.layout = None
        return self._summary(output, batch, layout), output.last_hidden_state

    def heads(self, summary: Tensor, hidden: Tensor, layout: Layout) -> list[Tensor]:
        """Of each place what its head makes of its texts' summaries, or of all their tokens."""
        weight, bias = (self.bank.parameters[f"{HEAD}.{kind}"] for kind in ("weight", "bias"))
        chosen = (own.index_select(0, layout.chosen) for own in (weight, bias))
        # Apart in one operation: each that takes a part by itself has a gradient as large as the whole.
        whole = by_part(summary.unflatten(0, (len(layout.places), -1)), *chosen).float().unbind()
        results = []
        for index, place in enumerate(layout.places):
            occupant = self.occupants[place]
            width = 0 if occupant is None else occupant.outputs
            if occupant is not None and occupant.spans:
                tokens = tokens_of(hidden, layout, index)
                results.append(functional.linear(tokens, weight[place, :width], bias[place, :width]).float())
            else:
                own = whole[index]
                results.append(own if width == own.shape[1] else own[:, :width])
        return results

    def _summary(self, output: Any, batch: Batch, layout: Layout) -> Tensor:
        """What the heads of all texts see, (texts, d)."""
        if layout.flat is None:
            return pooled(output, batch.attention_mask, self.pooling)
        hidden: Tensor = output.last_hidden_state
        if self.pooling == "mean":
            return means(hidden, layout.flat)
        first = hidden if hidden.shape[1] == 1 else first_tokens(hidden, layout)
        if self.pooling == "cls":
            return first[:, 0]
        found: Tensor = self.encoder.pooler(first)  # type: ignore[operator] # typed as a tensor or a module
        return found

    def _wrap(self, backbone: Backbone, occupants: Sequence[Occupant], parts: Sequence[Trained]) -> nn.Module:
        """The encoder's modules anew around the backbone's very tensors, with our modules in their places."""
        architecture = backbone.architecture
        shared = (*backbone.model.parameters(), *backbone.model.buffers())
        encoder = copy.deepcopy(backbone.model, {id(tensor): tensor for tensor in shared})
        if getattr(encoder, "_supports_attention_backend", False):
            encoder.set_attn_implementation(ATTENTION)  # type: ignore[operator]
        layers = layer_paths(architecture, encoder)
        self._put_norms(encoder)
        self._put_weights(encoder)
        firsts = [(one.config.dropout, own.first_layer) for one, own in zip(occupants, parts, strict=True)]
        self._put_dropout(encoder, layers, firsts, repeats=architecture.shared_layers)
        # But for its size an insert is the same for all that have it.
        inserts = {insert.name: insert for own in parts for insert in own.inserts}
        self._put_inserts(encoder, inserts.values())
        if architecture.relative is not None and len(self.occupants) > 1:
            put_tables(encoder, [f"{layer}.{architecture.relative}" for layer in layers], self.current)
        if architecture.distances is not None:
            put_distances(encoder, [f"{layer}.{architecture.distances}" for layer in layers])
        if (
            architecture.branch_ends
            and self.pooling != "mean"
            and not self.reads_tokens
            and not architecture.shared_layers
        ):
            path = f"{layers[-1]}.{architecture.branch_ends[0]}"
            encoder.set_submodule(path, FirstToken(encoder.get_submodule(path), self.current))
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
                packed = PackedNorm(parameters[name], bias, norm.eps, self.current)  # type: ignore[arg-type]
                encoder.set_submodule(path, packed)

    def _put_weights(self, encoder: nn.Module) -> None:
        for name, parameter in self.bank.parameters.items():
            if name.startswith(SINGLE):
                path, _, kind = name.removeprefix(SINGLE).rpartition(".")
                encoder.get_submodule(path).register_parameter(kind, parameter)

    def _put_dropout(
        self,
        encoder: nn.Module,
        layers: Sequence[str],
        wanted: Sequence[tuple[float | None, int]],
        *,
        repeats: bool,
    ) -> None:
        """Our dropout wherever the encoder has its own, or would have it at another rate.

        Args:
            wanted: each trial's own rate, if any, and the lowest layer that it trains.
        """
        where: dict[str, Any] = {"places": len(self.occupants), "device": self.bank.values.device}
        for site, (path, module) in enumerate(list(encoder.named_modules())):

            def seeded(rate: float, site: int = site, path: str = path) -> SeededDropout:
                layer = layer_of(path, layers)
                drops = any(rate_at(rate, layer, override=own, first_layer=at) for own, at in wanted)
                return SeededDropout(
                    rate, self.masks, drops=drops, site=site, layer=layer, repeats=repeats, **where
                )

            if isinstance(module, nn.Dropout):
                encoder.set_submodule(path, seeded(module.p))
            elif isinstance(own := vars(module).get("attention_dropout"), int | float):
                # ModernBERT's attention keeps its rate as a number ...
                del module.attention_dropout
                module.attention_dropout = seeded(float(own))
            elif isinstance(module, nn.Identity) and path.endswith("out_drop"):
                # ... and leaves out the dropout behind it where its rate is 0.
                encoder.set_submodule(path, seeded(0.0))

    def _put_inserts(self, encoder: nn.Module, inserts: Iterable[Insert]) -> None:
        for insert in inserts:
            parameters = {
                name.removeprefix(f"{insert.name}."): parameter
                for name, parameter in self.bank.parameters.items()
                if name.startswith(f"{insert.name}.")
            }
            module = insert.packed(encoder.get_submodule(insert.path), parameters, self.current)
            encoder.set_submodule(insert.path, module)


def build_model(
    backbone: Backbone, config: EncoderConfig, *, outputs: int, pooling: str, spans: bool = False
) -> PackModel:
    """The model of one trial alone, its parameters as they start."""
    model = PackModel(backbone, [Occupant(config, outputs, spans=spans)], pooling=pooling)
    model.load(initial_parameters(backbone, config, outputs=outputs))
    return model


def _rate(site: SeededDropout, config: EncoderConfig, first_layer: int) -> float:
    """A trial's at a site."""
    return rate_at(site.p, site.layer, override=config.dropout, first_layer=first_layer)


def check_shareable(backbone: Backbone, occupants: Sequence[Occupant]) -> None:
    """Raise ValueError if trials cannot be computed in one pass of the encoder."""
    if len(occupants) < 2:
        return
    first = occupants[0].config
    parts = [trained_parts(backbone, occupant.config) for occupant in occupants]
    in_common = [
        {"method": occupant.config.method, **own.in_common}
        for occupant, own in zip(occupants, parts, strict=True)
    ]
    for other in in_common[1:]:
        differ = [name for name in in_common[0] if other.get(name) != in_common[0][name]]
        if differ:
            raise ValueError(f"trials that differ in {', '.join(differ)} cannot share a pass")
    if any(own.weights for own in parts):
        raise ValueError(f"trials of {first.method} on {backbone.name!r} cannot share a pass")
