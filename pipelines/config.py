"""One trial's configuration: everything that decides its result, given task and backbone."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol


class Config(Protocol):
    """What all methods' configurations have; each is a frozen dataclass that compares by its fields."""

    @property
    def method(self) -> str:
        """The name of a row in the table of methods."""

    @property
    def epochs(self) -> int:
        """How often the training is validated: after each epoch, or part of the training."""

    @property
    def seed(self) -> int: ...

    def to_dict(self) -> dict[str, Any]:
        """All fields, in JSON's types: as checkpoints and bundles hold them."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """What all trials in the encoder have, whatever of it trains; a method with more has a subclass.

    Raises:
        ValueError: a value is outside its range.
    """

    method: str
    learning_rate: float = 3e-4  # the peak, after the warm-up
    epochs: int = 20  # the length of the schedule
    batch_size: int = 32  # examples
    weight_decay: float = 0.0  # decoupled; not on biases and layer norms
    dropout: float | None = None  # of the backbone, hidden and attention; None: the backbone's own
    first_layer: int = 0  # nothing below this layer trains; 0, the paper's: the embeddings' norm may too
    seed: int = 0

    def __post_init__(self) -> None:
        bad = {key: getattr(self, key) for key, holds in self.rules().items() if not holds}
        if bad:
            raise ValueError(f"out of range: {bad}")

    def rules(self) -> dict[str, bool]:
        """Whether each field is within its range."""
        return {
            "method": bool(self.method),
            "learning_rate": self.learning_rate > 0,
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 1,
            "weight_decay": self.weight_decay >= 0,
            "dropout": self.dropout is None or 0 <= self.dropout < 1,
            "first_layer": self.first_layer >= 0,
            "seed": self.seed >= 0,
        }

    def to_dict(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(EncoderConfig):
    """What a trial of the paper's methods trains, and how.

    The defaults are the paper's where it has one value (batch 32, init_std 1e-2; weight decay 0 is ours);
    for what it sweeps they are the middle of its GLUE space, and 20 epochs (§3.2).
    """

    method: str = "adapter"
    adapter_size: int = 64  # bottleneck width m, in units
    init_std: float = 1e-2  # of the adapters' weights
    last_layer: int | None = None  # the highest layer with adapters; None: the top one
    top_layers: int = 1  # for the method top_layers: how many train
    activation: str = "gelu"  # of the adapters
    adapter_layers: int = 1  # of a bottleneck
    adapter_norm: bool = False  # a layer norm inside the adapters
    adapter_places: Literal["both", "attention", "feed_forward"] = "both"
    adapter_placement: Literal["serial", "parallel"] = "serial"

    def rules(self) -> dict[str, bool]:
        return super().rules() | {
            "adapter_size": self.adapter_size >= 1,
            "init_std": self.init_std > 0,
            "last_layer": self.last_layer is None or self.last_layer >= self.first_layer,
            "top_layers": self.top_layers >= 1,
            "activation": self.activation in ("gelu", "relu", "swish", "tanh"),
            "adapter_layers": 1 <= self.adapter_layers <= 100,
            "adapter_places": self.adapter_places in ("both", "attention", "feed_forward"),
            "adapter_placement": self.adapter_placement in ("serial", "parallel"),
        }
