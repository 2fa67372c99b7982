"""The Tune trainable: a warm worker that takes trial after trial."""

import functools
import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import ray
from ray.tune import Trainable

from pipelines.method import find_method
from search.errors import StorageError
from search.workers.assignment import Assignment
from search.workers.checkpoints import read_state, write_state
from search.workers.context import WorkerContext, keep_kernels, open_backbone, open_cache
from search.workers.reports import REPORT, TrialReport, describe_failure, make_report

if TYPE_CHECKING:  # torch takes seconds to import: the driver's command line does without
    from pipelines.method import Training
    from pipelines.results import EpochResult

WORKER_RESTARTS = 2  # a trial whose worker or node is lost goes on from its checkpoint so many times


class WorkerTrial(Trainable):
    """Trains one trial, epoch by epoch; `reset_config` puts the next one onto the loaded backbone."""

    def setup(self, config: dict[str, Any], context: WorkerContext | None = None) -> None:
        """Load the backbone and begin the first trial."""
        if context is None:
            raise ValueError("WorkerTrial needs its context: tune.with_parameters(WorkerTrial, context=…)")
        self._context = context
        self._backbone = open_backbone(context)
        self._cache = open_cache(context)
        self._fused = keep_kernels(context)
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
        return {"number": self._assignment.number}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: `_begin` has found the checkpoint by its name."""

    def _begin(self, config: dict[str, Any]) -> None:
        self._assignment = Assignment.from_tune(config)
        self._training: Training | None = None
        self._epochs: Iterator[EpochResult] = iter(())
        gc.collect()  # a training and its pack keep each other, and all memory that they have

    def _advance(self) -> None:
        known = self._assignment.known
        if self._training is None:
            self._training = self._start()
            self._epochs = self._training.run()
            if len(self._training.epochs) > known:
                return  # an epoch whose report a killed driver did not get: it may have ended at a rung
        for _ in self._epochs:
            write_state(self._context, self._assignment, self._training.state())
            if len(self._training.epochs) > known:
                return  # what the record has of a trial whose checkpoint was lost is trained again at once

    def _start(self) -> "Training":
        """The trial's training, from its checkpoint if there is one."""
        from pipelines.folds import start_training

        config = self._assignment.config()
        make = functools.partial(
            find_method(config.method).make_training,
            self._backbone,
            config=config,
            pooling=self._context.pooling,
            precision=self._context.precision,
            vectors=self._context.vectors_for(config),
            cache=self._cache,
            fused=self._fused,
        )
        task = self._assignment.seen(ray.get(self._context.tasks[self._assignment.task]))
        training = start_training(task, make)
        saved = read_state(self._context, self._assignment)
        if saved is not None:
            training.restore(saved)
        return training
