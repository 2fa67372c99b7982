"""The Tune trainable: a warm worker that takes trial after trial. Beyond it, no dict of parameters."""

import gc
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.tune import Trainable

from pipelines.errors import CheckpointError
from pipelines.method import Method, adopt, find_method
from search.errors import StorageError, first_line
from search.storage import Storage, checkpoint_key

if TYPE_CHECKING:  # torch takes seconds to import: the driver's command line does without
    from pipelines.config import Config
    from pipelines.encoder.backbone import Backbone
    from pipelines.encoder.prefix import PrefixCache
    from pipelines.encoder.sharing import SharedBackbone
    from pipelines.epochs import TrainingState
    from pipelines.method import Training
    from pipelines.results import EpochResult
    from pipelines.tasks.encoded import EncodedTask
    from pipelines.towers.vectors import WordVectors

WORKER_RESTARTS = 2  # a trial whose worker or node is lost goes on from its checkpoint so many times
REPORT = "report"  # a TrialReport as JSON; all that Tune's results have of ours

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialReport:
    """What a worker tells the driver after each epoch.

    Attributes:
        epochs: all results so far, those of earlier workers too (as EpochResult dicts).
        facts: of the trial: trained_parameters, node.
        finished: whether its schedule is done.
        failure: why it failed, if it did.
        blocked: why it cannot go on, where that is the storage's fault: all else is then left as it was.
        node_id: Ray's, of where it trains.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    finished: bool = False
    failure: str | None = None
    blocked: str | None = None
    node_id: str | None = None

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "TrialReport":
        return cls(**json.loads(text))


@dataclass(frozen=True)
class WorkerContext:
    """What all of a job's workers share.

    Attributes:
        backbone: in Ray's object store, whose memory all workers of a machine share.
        tasks: encoded tasks in Ray's object store, by name.
        threads: torch's, for one trial; None on a GPU.
        cache: of outputs of layers that nothing trains, in 10^9 bytes.
        vectors: word vectors in Ray's object store, by name.
        methods: the job's rows of the table; a worker may lack one that another package registered.
    """

    job: str
    storage: Storage
    backbone: "ray.ObjectRef[SharedBackbone]"
    tasks: Mapping[str, "ray.ObjectRef[EncodedTask]"]
    pooling: str
    precision: str
    threads: int | None
    gpu: bool
    cache: float
    vectors: "Mapping[str, ray.ObjectRef[WordVectors]]" = field(default_factory=dict)
    methods: tuple[Method, ...] = ()

    def vectors_for(self, config: "Config") -> "dict[str, WordVectors]":
        """Those word vectors that a configuration reads."""
        used = find_method(config.method).vectors_of(config)
        return {name: ray.get(self.vectors[name]) for name in used if name in self.vectors}


class AdapterTrial(Trainable):
    """Trains one trial, epoch by epoch; `reset_config` puts the next one onto the loaded backbone."""

    def setup(self, config: dict[str, Any], context: WorkerContext | None = None) -> None:
        """Load the backbone and begin the first trial."""
        if context is None:
            raise ValueError("AdapterTrial needs its context: tune.with_parameters(AdapterTrial, context=…)")
        self._context = context
        self._backbone = open_backbone(context)
        self._cache = open_cache(context)
        gc.freeze()  # what is here stays: to look for cycles then takes milliseconds
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial on this worker."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch, write the checkpoint, report. What a trial does wrong is its failure, not ours."""
        try:
            self._advance()
        except StorageError as error:
            return {REPORT: TrialReport(blocked=str(error)).dumps()}
        except Exception as error:
            report = make_report(self._training, failure=describe_failure(error))
            return {REPORT: report.dumps(), "done": True}
        report = make_report(self._training)
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
        gc.collect()  # a training and its pack keep each other, and all memory that they have

    def _advance(self) -> None:
        known = self._config.get("known", 0)
        if self._training is None:
            self._training = self._start()
            self._epochs = self._training.run()
            if len(self._training.epochs) > known:
                return  # an epoch whose report a killed driver did not get: it may have ended at a rung
        for _ in self._epochs:
            write_state(self._context, self._config, self._training.state())
            if len(self._training.epochs) > known:
                return  # what the record has of a trial whose checkpoint was lost is trained again at once

    def _start(self) -> "Training":
        """The trial's training, from its checkpoint if there is one."""
        config = train_config(self._config)
        training = find_method(config.method).make_training(
            self._backbone,
            ray.get(self._context.tasks[self._config["task"]]),
            config,
            pooling=self._context.pooling,
            precision=self._context.precision,
            vectors=self._context.vectors_for(config),
            cache=self._cache,
        )
        saved = read_state(self._context, self._config)
        if saved is not None:
            training.restore(saved)
        return training


def train_config(config: Mapping[str, Any]) -> "Config":
    """The configuration that Tune's dict stands for: beyond here there are no dicts."""
    return find_method(config["method"]).config(config["params"], seed=config["seed"])


def checkpoint_of(context: WorkerContext, config: Mapping[str, Any]) -> str:
    """The key of a trial's checkpoint."""
    return checkpoint_key(context.job, config["task"], config["method"], config["number"])


def read_state(context: WorkerContext, config: Mapping[str, Any]) -> "TrainingState | None":
    """Where a trial's checkpoint left it; None where it has none, or one that is damaged.

    Raises:
        StorageError: the storage cannot be read.
    """
    from pipelines.checkpoint import load_state

    key = checkpoint_of(context, config)
    try:
        saved = context.storage.read(key)
    except OSError as error:
        raise StorageError(f"storage {context.storage.root} cannot be read ({first_line(error)})") from error
    try:
        return None if saved is None else load_state(saved)
    except CheckpointError as error:
        log.warning("%s: %s; the trial is trained again", context.storage.uri(key), error)
        return None


def write_state(context: WorkerContext, config: Mapping[str, Any], state: "TrainingState") -> None:
    """Write a trial's checkpoint.

    Raises:
        StorageError: the storage cannot be written.
    """
    from pipelines.checkpoint import dump_state

    try:
        context.storage.write(checkpoint_of(context, config), dump_state(state))
    except OSError as error:
        raise StorageError(unwritable(context.storage, error)) from error


def make_report(
    training: "Training | None", *, failure: str | None = None, epochs: int | None = None
) -> TrialReport:
    """What to tell the driver of a trial.

    Args:
        epochs: how many of its epochs; None: all.
    """
    facts: dict[str, Any] = {"node": os.uname().nodename}
    node_id = ray.get_runtime_context().get_node_id() if ray.is_initialized() else None
    if training is None:
        return TrialReport(facts=facts, failure=failure, node_id=node_id)
    facts["trained_parameters"] = training.trained_parameters
    told = training.epochs[:epochs]
    return TrialReport(
        epochs=[epoch.to_dict() for epoch in told],
        facts=facts,
        finished=len(told) == training.config.epochs,
        failure=failure,
        node_id=node_id,
    )


def open_backbone(context: WorkerContext) -> "Backbone":
    """The job's backbone on this worker's device, torch set to the worker's share of the machine."""
    import torch

    adopt(context.methods)
    if context.threads is not None:
        torch.set_num_threads(context.threads)
    shared: SharedBackbone = ray.get(context.backbone)
    backbone = shared.open()
    if context.gpu:
        backbone.model.to("cuda")
    return backbone


def open_cache(context: WorkerContext) -> "PrefixCache | None":
    """Where outputs of layers that nothing trains are kept: in the storage, or on this machine beside it."""
    from pipelines.encoder.prefix import PrefixCache

    if not context.cache:
        return None
    local = Path(tempfile.gettempdir(), f"adaptune-cache-{os.getuid()}")
    folder = context.storage.path("cache") if context.storage.is_folder else local
    return PrefixCache(folder, context.cache)


def unwritable(storage: Storage, error: BaseException) -> str:
    """What to say of a storage that cannot be written."""
    return f"storage {storage.root} cannot be written ({first_line(error)})"


def describe_failure(error: Exception) -> str:
    """One line that says why a trial failed."""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"[:1000]
