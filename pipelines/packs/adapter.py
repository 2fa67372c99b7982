"""The bottleneck adapter of Houlsby et al. 2019, §2.1: as it is written down, and for many trials at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.config import TrainConfig
from pipelines.encoder.architectures import adapter_sites, layer_paths
from pipelines.encoder.backbone import Backbone
from pipelines.errors import InputError
from pipelines.packs.layout import Current
from pipelines.packs.modules import place_linear
from pipelines.packs.trained import Insert, Trained, trained_norms

# By name. All are 0 at 0, so that a narrow adapter may be padded with zeros. "gelu" is its tanh
# approximation, as in the authors' code; the others are what the paper tried without gain (§3.6).
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
    "swish": functional.silu,
    "tanh": torch.tanh,
}


class BottleneckAdapter(nn.Module):
    """x + up(gelu(down(x))): a bottleneck of width m with a skip; 2md + d + m parameters.

    Starts near the identity: weights from N(0, init_std²) cut at two deviations, biases 0 (§3.6).
    Deviation: §3.6 has init_std = 1e-2, the authors' code 1e-3; the default follows §3.6.

    Args:
        layers: of the bottleneck; each after the first adds m² + m parameters. The paper's has one.
        norm: a layer norm in the bottleneck, before its activation. The paper's has none.

    Shapes: (..., d) -> (..., d)
    """

    def __init__(
        self,
        d: int,
        m: int,
        *,
        init_std: float = 1e-2,
        activation: str = "gelu",
        layers: int = 1,
        norm: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.down = nn.Linear(d, m)
        self.inner = nn.ModuleList(nn.Linear(m, m) for _ in range(layers - 1))
        self.up = nn.Linear(m, d)
        self.norm = nn.LayerNorm(m) if norm else None
        self._activation = ACTIVATIONS[activation]
        for linear in (self.down, *self.inner, self.up):
            nn.init.trunc_normal_(
                linear.weight, std=init_std, a=-2 * init_std, b=2 * init_std, generator=generator
            )
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        z = self.down(x)
        z = self._activation(z if self.norm is None else self.norm(z))
        for linear in self.inner:
            z = self._activation(linear(z))
        change: Tensor = self.up(z)
        return x + change


class PackedAdapter(nn.Module):
    """`BottleneckAdapter` for all places at once, by batched products.

    Shapes: (lines, tokens, d), the same out.

    Args:
        parameters: the adapter's, by BottleneckAdapter's names, each (K, ...).
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], current: Current, *, activation: str, layers: int
    ) -> None:
        super().__init__()
        self._current = current
        self._names = {name: name.replace(".", "_") for name in parameters}
        for name, parameter in parameters.items():
            self.register_parameter(self._names[name], parameter)
        self._activation = ACTIVATIONS[activation]
        self._inner = [f"inner.{index}" for index in range(layers - 1)]

    def forward(self, x: Tensor) -> Tensor:
        layout = self._current.now
        tiled = layout.tiled(x) is not None

        def own(name: str) -> nn.Parameter:
            return self.get_parameter(self._names[name])

        def linear(name: str, x: Tensor, skip: Tensor | None = None) -> Tensor:
            weight, bias = own(f"{name}.weight"), own(f"{name}.bias")
            return place_linear(layout, x, weight, bias, tiled=tiled, skip=skip)

        parts = layout.split(x)
        z = linear("down", parts)
        if "norm.weight" in self._names:
            z = functional.layer_norm(z, z.shape[-1:])
            shift, scale = (layout.own(own(f"norm.{kind}"), x)[:, None] for kind in ("bias", "weight"))
            z = torch.addcmul(shift, z, scale)
        z = self._activation(z)
        for name in self._inner:
            z = self._activation(linear(name, z))
        return linear("up", z, skip=parts).view_as(x)


class ParallelAdapter(nn.Module):
    """An adapter beside a branch instead of behind it (§3.6): it reads what the branch reads.

    Wraps the encoder's module of (branch, residual), whose residual is what the branch was given.
    """

    def __init__(self, host: nn.Module, adapter: PackedAdapter) -> None:
        super().__init__()
        self.host = host
        self.adapter = adapter

    def forward(self, branch: Tensor, residual: Tensor) -> Tensor:
        output: Tensor = self.host(branch, self.adapter(residual))
        return output


@dataclass(frozen=True)
class AdapterInsert(Insert):
    """An adapter behind a branch of a layer, or beside it.

    Attributes:
        width: the encoder's hidden size d.
    """

    config: TrainConfig
    width: int

    def start(self, generator: torch.Generator | None) -> nn.Module:
        config = self.config
        return BottleneckAdapter(
            self.width,
            config.adapter_size,
            init_std=config.init_std,
            activation=config.activation,
            layers=config.adapter_layers,
            norm=config.adapter_norm,
            generator=generator,
        )

    def packed(self, host: nn.Module, parameters: Mapping[str, nn.Parameter], current: Current) -> nn.Module:
        config = self.config
        adapter = PackedAdapter(
            parameters, current, activation=config.activation, layers=config.adapter_layers
        )
        if config.adapter_placement == "parallel":
            return ParallelAdapter(host, adapter)
        return nn.Sequential(host, adapter)


def adapters(backbone: Backbone, config: TrainConfig) -> Trained:
    """The parts of the method `adapter` (§2.1).

    A bottleneck after the attention's and after the feed-forward's projection of every layer, before the
    residual is added, from `first_layer` to `last_layer`; all layer norms from there up, with `first_layer`
    at 0 the embeddings' included.

    Raises:
        InputError: the backbone does not have the layers, or cannot take such adapters.
    """
    architecture, model = backbone.architecture, backbone.model
    layers = layer_paths(architecture, model)
    last = _last_layer(backbone, config, len(layers))
    sites = [
        site
        for site in adapter_sites(architecture, model)
        if config.first_layer <= site.layer <= last and config.adapter_places in ("both", site.branch)
    ]
    paths = {site: site.path for site in sites}
    if config.adapter_placement == "parallel":
        ends = _branch_ends(backbone)
        paths = {site: f"{layers[site.layer]}.{ends[site.branch]}" for site in sites}
    shape = ("activation", "adapter_layers", "adapter_norm", "adapter_placement")
    in_common: dict[str, object] = {name: getattr(config, name) for name in shape}
    if config.adapter_norm:  # over its whole width, so that none can be padded
        in_common["adapter_size (with adapter_norm)"] = config.adapter_size
    return Trained(
        first_layer=config.first_layer,
        norms=trained_norms(backbone, config.first_layer),
        inserts=tuple(
            AdapterInsert(
                f"adapter.{site.layer}.{site.branch}", site.layer, paths[site], config, backbone.width
            )
            for site in sites
        ),
        in_common=in_common,
    )


def _last_layer(backbone: Backbone, config: TrainConfig, depth: int) -> int:
    if config.last_layer is None:
        return depth - 1
    rule, fix = f"backbone {backbone.name!r} has {depth} distinct layers", f"Write 0 to {depth - 1}."
    if backbone.architecture.shared_layers:
        rule, fix = "its layers share their weights", "Leave last_layer out."
    elif config.last_layer < depth:
        return config.last_layer
    raise InputError("last_layer", config.last_layer, rule, fix)


def _branch_ends(backbone: Backbone) -> dict[str, str]:
    ends = backbone.architecture.branch_ends
    if ends is None:
        kind = getattr(backbone.model.config, "model_type", "?")
        rule = f"parallel adapters cannot be placed in the architecture {kind!r}"
        raise InputError("adapter_placement", "parallel", rule, "Write serial.")
    return dict(zip(("attention", "feed_forward"), ends, strict=True))
