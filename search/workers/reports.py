"""What a worker tells the driver of a trial."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import ray

from pipelines.results import EpochResult

if TYPE_CHECKING:
    from pipelines.method import Training

REPORT = "report"  # a TrialReport as JSON; all that Tune's results have of ours


@dataclass(frozen=True)
class TrialReport:
    """What a worker tells the driver after each epoch.

    Attributes:
        epochs: all results so far, those of earlier workers too.
        node: the machine that trains it.
        trained_parameters: None before the training is made.
        finished: whether its schedule is done.
        failure: why it failed, if it did.
        blocked: why it cannot go on, where that is the storage's fault: all else is then left as it was.
        node_id: Ray's, of where it trains.
    """

    epochs: tuple[EpochResult, ...] = ()
    node: str | None = None
    trained_parameters: int | None = None
    finished: bool = False
    failure: str | None = None
    blocked: str | None = None
    node_id: str | None = None

    def dumps(self) -> str:
        """As JSON: Tune flattens what is nested, and leaves one opaque value as it is."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "TrialReport":
        """Read what `dumps` gave."""
        raw = json.loads(text)
        return cls(**{**raw, "epochs": tuple(EpochResult.from_dict(epoch) for epoch in raw["epochs"])})


@dataclass(frozen=True)
class HostState:
    """What a host of packs is doing at a moment.

    Attributes:
        capacity: how many trials it takes.
        packs: of each of its packs, how many trials share a pass of the encoder.
        node: the machine.
        gpus: what its GPUs are doing (`gpus.read_gpus`).
    """

    capacity: int
    packs: tuple[int, ...] = ()
    node: str = ""
    gpus: Mapping[str, float] = field(default_factory=dict)


def make_report(
    training: "Training | None", *, failure: str | None = None, epochs: int | None = None
) -> TrialReport:
    """What to tell the driver of a trial.

    Args:
        epochs: how many of its epochs; None: all.
    """
    node = os.uname().nodename
    node_id = ray.get_runtime_context().get_node_id() if ray.is_initialized() else None
    if training is None:
        return TrialReport(node=node, failure=failure, node_id=node_id)
    told = training.epochs[:epochs]
    return TrialReport(
        epochs=tuple(told),
        node=node,
        trained_parameters=training.trained_parameters,
        finished=len(told) == training.config.epochs,
        failure=failure,
        node_id=node_id,
    )


def describe_failure(error: Exception) -> str:
    """One line that says why a trial failed."""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"[:1000]
