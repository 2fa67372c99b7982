"""The bottleneck adapter of Houlsby et al. 2019, §2.1."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class BottleneckAdapter(nn.Module):
    """x + up(gelu(down(x))): a bottleneck of width m with a skip; 2md + d + m parameters.

    Starts near the identity: weights from N(0, init_std²) cut at two deviations, biases 0 (§3.6).
    The activation is the tanh approximation of GELU, as in the authors' code.
    Deviation: §3.6 has init_std = 1e-2, the authors' code 1e-3; the default follows §3.6.

    Shapes: (..., d) -> (..., d)
    """

    def __init__(self, d: int, m: int, *, init_std: float = 1e-2, generator: torch.Generator | None = None):
        super().__init__()
        self.down = nn.Linear(d, m)
        self.up = nn.Linear(m, d)
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(
                linear.weight, std=init_std, a=-2 * init_std, b=2 * init_std, generator=generator
            )
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.up(functional.gelu(self.down(x), approximate="tanh"))
        return x + change
