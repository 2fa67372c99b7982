"""One trial's configuration: everything that decides its result, given task and backbone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipelines.towers.config import METHOD, PARTS, SENTENCE, TOKEN_TABLE, EmbeddingConfig

EMBEDDINGS = METHOD  # the one whose configuration is no TrainConfig
METHODS = ("adapter", "fine_tune", "top_layers", "layer_norm")  # of the encoder


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
    first_layer: int = (
        0  # adapters and layer norms train from this layer up; 0, the paper's: the embeddings' too
    )
    last_layer: int | None = None  # the highest layer with adapters; None: the top one
    top_layers: int = 1  # for the method top_layers: how many train
    activation: str = "gelu"  # of the adapters
    adapter_layers: int = 1  # of a bottleneck
    adapter_norm: bool = False  # a layer norm inside the adapters
    adapter_places: Literal["both", "attention", "feed_forward"] = "both"
    adapter_placement: Literal["serial", "parallel"] = "serial"
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "method": self.method in METHODS,
            "adapter_size": self.adapter_size >= 1,
            "learning_rate": self.learning_rate > 0,
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 1,
            "weight_decay": self.weight_decay >= 0,
            "dropout": self.dropout is None or 0 <= self.dropout < 1,
            "init_std": self.init_std > 0,
            "first_layer": self.first_layer >= 0,
            "last_layer": self.last_layer is None or self.last_layer >= self.first_layer,
            "top_layers": self.top_layers >= 1,
            "activation": self.activation in ("gelu", "relu", "swish", "tanh"),
            "adapter_layers": 1 <= self.adapter_layers <= 100,
            "adapter_places": self.adapter_places in ("both", "attention", "feed_forward"),
            "adapter_placement": self.adapter_placement in ("serial", "parallel"),
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


Config = TrainConfig | EmbeddingConfig


def make_config(params: Mapping[str, Any], *, method: str, seed: int) -> Config:
    """A trial's configuration; raises TypeError for a parameter that its method does not have."""
    if method == EMBEDDINGS:
        return EmbeddingConfig.from_params(params, seed=seed)
    return TrainConfig.from_params(params, method=method, seed=seed)


def config_from_dict(raw: Mapping[str, Any]) -> Config:
    """The configuration that `to_dict` wrote; raises TypeError for fields that it does not have."""
    return EmbeddingConfig(**raw) if raw.get("method") == EMBEDDINGS else TrainConfig(**raw)


def vectors_of(config: Config) -> tuple[str, ...]:
    """The names of the word vectors that a configuration reads: one, or none."""
    if isinstance(config, TrainConfig) or config.embedding in (TOKEN_TABLE, SENTENCE):
        return ()
    return (config.embedding,)


def epochs_of(params: Mapping[str, Any], *, method: str = METHODS[0]) -> int:
    """The epochs that a trial with these parameters is to train."""
    return PARTS if method == EMBEDDINGS else int(params.get("epochs", TrainConfig.epochs))
