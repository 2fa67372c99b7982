"""What a training gives after each epoch. Free of torch: the record of a search is made of these."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave.

    Attributes:
        epoch: 1 for the first.
        train_loss: mean over the epoch's examples (of spans: windows).
        scores: validation metrics by name, raw; none where nothing is scored.
        score: the metric that chooses, signed: higher is better, whatever the metric. Where nothing is
            scored, the training loss, signed likewise: it chooses nothing.
        seconds: of training only, without validation.
        finished_at: seconds since 1970, by the clock of the machine that trained.
        validation_loss: the training's loss on the validation set, without dropout; None for spans, whose
            windows do not each have an answer.
    """

    epoch: int
    train_loss: float
    scores: Mapping[str, float]
    score: float
    seconds: float
    finished_at: float
    validation_loss: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields, in JSON's types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "EpochResult":
        """The result that `to_dict` wrote; raises TypeError for fields that are missing or unknown."""
        return cls(**{**raw})
