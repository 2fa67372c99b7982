"""The bottleneck adapter of Houlsby et al. 2019, §2.1: as it is written down, and for many trials at once."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

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
