"""The configuration of the method `probe`."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

METHOD = "probe"
POOLINGS = ("mean", "cls", "pooler")


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """A regularised linear model on the frozen encoder's vectors; its strength is chosen on the training set.

    Raises:
        ValueError: a value is outside its range.
    """

    epochs: ClassVar[int] = 1  # it is fitted at once

    method: str = METHOD
    pooling: str = "mean"  # what a text's vector is made of; `pooler` where the encoder has one
    seed: int = 0  # of the folds that choose the strength

    def __post_init__(self) -> None:
        rules = {
            "method": self.method == METHOD,
            "pooling": self.pooling in POOLINGS,
            "seed": self.seed >= 0,
        }
        if bad := {key: getattr(self, key) for key, holds in rules.items() if not holds}:
            raise ValueError(f"out of range: {bad}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
