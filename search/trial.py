"""The Tune trainable: a warm worker that takes trial after trial. Beyond it, no dict of parameters."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import ray
from ray.tune import Trainable

from search.storage import Storage, checkpoint_key

if TYPE_CHECKING:  # torch takes seconds to import: the driver's command line does without
    from pipelines.backbone import Backbone
    from pipelines.tokens import EncodedTask
    from pipelines.training import EpochResult, Training

REPORT = "report"  # the one key of a Tune result that is ours: a TrialReport as JSON


@dataclass(frozen=True)
class TrialReport:
    """What a worker tells the driver after each epoch.

    Attributes:
        epochs: all results so far, those of earlier workers too (as EpochResult dicts).
        facts: of the trial: trained_parameters, node.
        finished: whether its schedule is done.
        failure: why it failed, if it did.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    finished: bool = False
    failure: str | None = None

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "TrialReport":
        return cls(**json.loads(text))


@dataclass(frozen=True)
class WorkerContext:
    """What all of a job's workers share.

    Attributes:
        tasks: encoded tasks in Ray's object store, by name.
        threads: torch's, for one trial; None on a GPU.
    """

    job: str
    storage: Storage
    backbone: str
    tasks: Mapping[str, "ray.ObjectRef[EncodedTask]"]
    pooling: str
    precision: str
    threads: int | None
    gpu: bool


class AdapterTrial(Trainable):
    """Trains one trial, epoch by epoch; `reset_config` puts the next one onto the loaded backbone."""

    def setup(self, config: dict[str, Any], context: WorkerContext | None = None) -> None:
        """Load the backbone and begin the first trial."""
        if context is None:
            raise ValueError("AdapterTrial needs its context: tune.with_parameters(AdapterTrial, context=…)")
        self._context = context
        self._backbone = load_worker_backbone(context)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial on this worker."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch, write the checkpoint, report. What a trial does wrong is its failure, not ours."""
        try:
            self._advance()
        except Exception as error:
            report = self._report(failure=describe_failure(error))
            return {REPORT: report.dumps(), "done": True}
        report = self._report(failure=None)
        return {REPORT: report.dumps(), "done": report.finished}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Nothing for Tune to keep: the trial's checkpoint lies in the storage, under its name."""
        return {"number": self._config["number"]}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: `_begin` has found the checkpoint by its name."""

    def _begin(self, config: dict[str, Any]) -> None:
        self._config = config
        self._training: Training | None = None
        self._epochs: Iterator[EpochResult] = iter(())

    def _advance(self) -> None:
        from pipelines.checkpoint import dump_state

        if self._training is None:
            self._training = self._start()
            self._epochs = self._training.run()
        if next(self._epochs, None) is not None:
            data = dump_state(self._training.state())
            self._context.storage.write(self._checkpoint, data)

    def _start(self) -> "Training":
        """The trial's training, from its checkpoint if there is one."""
        from pipelines.checkpoint import load_state
        from pipelines.config import TrainConfig
        from pipelines.training import Training

        train = TrainConfig.from_params(
            self._config["params"], method=self._config["method"], seed=self._config["seed"]
        )
        training = Training(
            self._backbone,
            ray.get(self._context.tasks[self._config["task"]]),
            train,
            pooling=self._context.pooling,
            precision=self._context.precision,
        )
        saved = self._context.storage.read(self._checkpoint)
        if saved is not None:
            training.restore(load_state(saved))
        return training

    @property
    def _checkpoint(self) -> str:
        config = self._config
        return checkpoint_key(self._context.job, config["task"], config["method"], config["number"])

    def _report(self, *, failure: str | None) -> TrialReport:
        facts: dict[str, Any] = {"node": os.uname().nodename}
        if self._training is None:
            return TrialReport(facts=facts, failure=failure)
        facts["trained_parameters"] = sum(one.numel() for one in self._training.parameters.values())
        return TrialReport(
            epochs=[epoch.to_dict() for epoch in self._training.epochs],
            facts=facts,
            finished=self._training.finished,
            failure=failure,
        )


def load_worker_backbone(context: WorkerContext) -> "Backbone":
    """The job's backbone on this worker's device, torch set to the worker's share of the machine."""
    import torch

    from pipelines.backbone import load_backbone

    if context.threads is not None:
        torch.set_num_threads(context.threads)
    backbone = load_backbone(context.backbone)
    if context.gpu:
        backbone.model.to("cuda")
    return backbone


def describe_failure(error: Exception) -> str:
    """One line that says why a trial failed."""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"[:1000]
