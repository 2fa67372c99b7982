"""One trial's configuration: everything that decides its result, given task and backbone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What a trial trains, and how.

    The defaults are the paper's where it has one value (batch 32, init_std 1e-2; weight decay 0 is ours);
    for what it sweeps they are the middle of its GLUE space, and 20 epochs (§3.2).

    Raises:
        ValueError: a value is outside its range.
    """

    method: str = "adapter"
    adapter_size: int = 64  # bottleneck width m, in units
    learning_rate: float = 3e-4  # the peak, after the warm-up
    epochs: int = 20  # the length of the schedule
    batch_size: int = 32  # examples
    weight_decay: float = 0.0  # decoupled; not on biases and layer norms
    dropout: float | None = None  # of the backbone, hidden and attention; None: the backbone's own
    init_std: float = 1e-2  # of the adapters' weights
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "adapter_size": self.adapter_size >= 1,
            "learning_rate": self.learning_rate > 0,
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 1,
            "weight_decay": self.weight_decay >= 0,
            "dropout": self.dropout is None or 0 <= self.dropout < 1,
            "init_std": self.init_std > 0,
            "seed": self.seed >= 0,
        }
        bad = {key: getattr(self, key) for key, holds in rules.items() if not holds}
        if bad:
            raise ValueError(f"out of range: {bad}")

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, method: str, seed: int) -> "TrainConfig":
        """The configuration of a trial's parameters; raises TypeError for a name it does not have."""
        return cls(method=method, seed=seed, **params)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
