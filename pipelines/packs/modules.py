"""Modules that compute several trials side by side in one pass of the frozen encoder.

A batch's first dimension is (places x rows): the rows of the first trial, then those of the second, and so
on. Frozen modules do not notice; the modules here use each trial's own parameters for its own rows.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.packs.adapter import ACTIVATIONS


class Places:
    """Which of a bank's places the rows of a batch belong to: all, or a single one that is evaluated."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.only: int | None = None

    @property
    def active(self) -> int:
        """How many places a batch holds rows of."""
        return self.count if self.only is None else 1

    def of(self, parameter: Tensor) -> Tensor:
        """The active places' part of a parameter (K, ...)."""
        return parameter if self.only is None else parameter[self.only : self.only + 1]


class PackedAdapter(nn.Module):
    """`BottleneckAdapter` for all places at once, by batched products.

    Shapes: (places x rows, tokens, d), the same out.

    Args:
        parameters: the adapter's, by BottleneckAdapter's names, each (K, ...).
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], places: Places, *, activation: str, layers: int
    ) -> None:
        super().__init__()
        self._places = places
        self._parameters_by_name = dict(parameters)
        for name, parameter in parameters.items():
            self.register_parameter(name.replace(".", "_"), parameter)
        self._activation = ACTIVATIONS[activation]
        self._inner = [f"inner.{index}" for index in range(layers - 1)]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(x)

    def change(self, x: Tensor) -> Tensor:
        """What the adapter adds."""
        z = self._linear("down", x.reshape(self._places.active, -1, x.shape[-1]))
        if "norm.weight" in self._parameters_by_name:
            z = functional.layer_norm(z, z.shape[-1:])
            z = torch.addcmul(self._of("norm.bias")[:, None], z, self._of("norm.weight")[:, None])
        z = self._activation(z)
        for name in self._inner:
            z = self._activation(self._linear(name, z))
        return self._linear("up", z).view_as(x)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return torch.baddbmm(self._of(f"{name}.bias")[:, None], x, self._of(f"{name}.weight").transpose(1, 2))

    def _of(self, name: str) -> Tensor:
        return self._places.of(self._parameters_by_name[name])


class PackedNorm(nn.Module):
    """A layer norm with a scale and a shift for each place.

    Shapes: (places x rows, ..., d), the same out.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None, eps: float, places: Places) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.eps = eps
        self._places = places

    def forward(self, x: Tensor) -> Tensor:
        weight = self._places.of(self.weight)
        bias = None if self.bias is None else self._places.of(self.bias)
        width = x.shape[-1:]
        if len(weight) == 1:  # torch's fused one
            return functional.layer_norm(x, width, weight[0], None if bias is None else bias[0], self.eps)
        normed = functional.layer_norm(x, width, eps=self.eps).view(len(weight), -1, *width)
        scaled = normed * weight[:, None]
        return (scaled if bias is None else scaled + bias[:, None]).view(x.shape)


class ParallelAdapter(nn.Module):
    """An adapter beside a branch instead of behind it (§3.6): it reads what the branch reads.

    Wraps the encoder's module of (branch, residual), whose residual is what the branch was given.
    """

    def __init__(self, host: nn.Module, adapter: PackedAdapter) -> None:
        super().__init__()
        self.host = host
        self.adapter = adapter

    def forward(self, branch: Tensor, residual: Tensor) -> Tensor:
        output: Tensor = self.host(branch, residual + self.adapter.change(residual))
        return output


class FirstToken(nn.Module):
    """Lets a module of (branch, residual) see the first token alone: all that the head will read."""

    def __init__(self, host: nn.Module) -> None:
        super().__init__()
        self.host = host

    def forward(self, branch: Tensor, residual: Tensor) -> Tensor:
        output: Tensor = self.host(branch[:, :1], residual[:, :1])
        return output


class Known:
    """Hidden states (rows, tokens, d) that a `KnownLayer` gives out; the batch sets them."""

    def __init__(self) -> None:
        self.hidden: Tensor | None = None


class KnownLayer(nn.Module):
    """Stands for a layer whose output is known, or needs none: passes on `known`, or else its input."""

    def __init__(self, host: nn.Module, known: Known | None, *, tuples: bool) -> None:
        super().__init__()
        plain = {name: value for name, value in vars(host).items() if isinstance(value, str)}
        self.__dict__.update(plain)  # ModernBERT's encoder reads each layer's attention_type
        self._known = known
        self._tuples = tuples

    def forward(self, hidden: Tensor, *_: object, **__: object) -> Tensor | tuple[Tensor, None]:
        if self._known is not None and self._known.hidden is not None:
            hidden = self._known.hidden
        return (hidden, None) if self._tuples else hidden
