"""Modules that compute several trials side by side in one pass of the frozen encoder.

A batch's first dimension is (places x rows): the rows of the first trial, then those of the second, and so
on. Frozen modules do not notice; the modules here use each trial's own parameters for its own rows.
"""

from torch import Tensor, nn
from torch.nn import functional


class ActiveRows:
    """Whose rows a batch has: those of all places of a bank, or of a single one that is evaluated."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.only: int | None = None

    @property
    def places(self) -> int:
        """How many places a batch holds rows of."""
        return self.count if self.only is None else 1

    def of(self, parameter: Tensor) -> Tensor:
        """The active places' part of a parameter (K, ...)."""
        return parameter if self.only is None else parameter[self.only : self.only + 1]


class PackedNorm(nn.Module):
    """A layer norm with a scale and a shift for each place.

    Shapes: (places x rows, ..., d), the same out.
    """

    def __init__(
        self, weight: nn.Parameter, bias: nn.Parameter | None, eps: float, active: ActiveRows
    ) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.eps = eps
        self._active = active

    def forward(self, x: Tensor) -> Tensor:
        weight = self._active.of(self.weight)
        bias = None if self.bias is None else self._active.of(self.bias)
        width = x.shape[-1:]
        if len(weight) == 1:  # torch's fused one
            return functional.layer_norm(x, width, weight[0], None if bias is None else bias[0], self.eps)
        normed = functional.layer_norm(x, width, eps=self.eps).view(len(weight), -1, *width)
        scaled = normed * weight[:, None]
        return (scaled if bias is None else scaled + bias[:, None]).view(x.shape)


class FirstToken(nn.Module):
    """Lets a module of (branch, residual) see the first token alone: all that the head will read."""

    def __init__(self, host: nn.Module) -> None:
        super().__init__()
        self.host = host

    def forward(self, branch: Tensor, residual: Tensor) -> Tensor:
        output: Tensor = self.host(branch[:, :1], residual[:, :1])
        return output
