"""What a winner has to beat: a linear probe of the same frozen encoder; and how sure every score is."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.encoder.backbone import Backbone
from pipelines.encoder.prefix import PrefixCache
from pipelines.encoder.tokens import TaskTexts
from pipelines.folds import start_training
from pipelines.intervals import score_interval, scorer
from pipelines.method import HeldOut
from pipelines.methods import PROBE
from pipelines.metrics import METRICS
from pipelines.tasks.encoded import EncodedTask
from pipelines.tasks.rows import TaskData
from search.record import Baseline, Intervals

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FloorTexts:
    """What a probe reads of a task. With `refit` the tested one is fitted on all rows, as winners are."""

    texts: TaskTexts
    test: HeldOut
    refit: bool = False


@dataclass(frozen=True)
class Floor:
    """A baseline, and its outputs on the test set."""

    baseline: Baseline
    test: Array


def floor_texts(
    task: EncodedTask, data: TaskData, backbone: Backbone, *, refit: bool = False
) -> FloorTexts | None:
    """The texts of a task's baseline; None for a kind that has none: it asks for places in a text."""
    if data.rules.per_token:
        return None
    prepared = PROBE.prepare(replace(task, texts=None), data, backbone, searched={}, vectors={})
    held_out = PROBE.encode_held_out(data, backbone, task.max_tokens, PROBE.config({}, seed=0), {})
    if prepared.texts is None:
        raise ValueError(f"the probe's texts of {task.name} are missing")
    texts = prepared.texts if data.folds is None else prepared.in_folds(data.folds).texts
    return FloorTexts(texts or prepared.texts, held_out["test"][0], refit)


def measure_floor(
    texts: FloorTexts,
    task: EncodedTask,
    targets: Any,
    backbone: Backbone,
    *,
    precision: str,
    cache: PrefixCache | None,
) -> Floor:
    """Fit the probe, and score it and the most frequent class, or the mean.

    Args:
        targets: of the test set.
        precision: resolved.
        cache: of the encoder's vectors.
    """
    config = PROBE.config({}, seed=0)
    make = functools.partial(
        PROBE.make_training,
        backbone,
        config=config,
        pooling=config.pooling,
        precision=precision,
        vectors={},
        cache=cache,
    )
    task = replace(task, texts=texts.texts)
    training = start_training(task, make)
    (result,) = training.run()
    if texts.refit:
        training = make(task.refitted())
        list(training.run())
    model = PROBE.open_trained(
        backbone,
        task,
        config,
        training.state().best,
        pooling=config.pooling,
        precision=precision,
        vectors={},
    )
    seen = replace(task.refitted(), metrics=task.metrics) if texts.refit else task
    outputs = model(texts.test)
    constant = seen.rules.constant_outputs(seen.train_targets, seen.outputs)
    majority = np.tile(constant, (len(outputs), 1))
    baseline = Baseline(
        method=config.method,
        validation=result.scores[task.metric],
        test=seen.score(outputs, targets)[task.metric],
        majority=seen.score(majority, targets)[task.metric],
    )
    return Floor(baseline, outputs)


def winner_intervals(
    task: EncodedTask,
    validation: Sequence[Array],
    test: Sequence[Array],
    targets: Any,
    floor: Floor | None,
    *,
    tested: EncodedTask | None = None,
) -> Intervals:
    """How sure the scores of a winner are.

    Args:
        validation, test: the outputs of each of its runs on the set.
        targets: of the test set.
        tested: what the tested models were trained on, where that is not the task as it is.
    """
    rows, tested = len(targets), tested or task
    gain = None
    if floor is not None:
        beside = scorer(tested, floor.test, targets)
        gain = score_interval([scorer(tested, own, targets) for own in test], rows, beside=beside)
    if gain is not None and METRICS[task.metric].better == "lower":
        gain = -gain[1], -gain[0]
    return Intervals(
        validation=score_interval(
            [scorer(task, own, task.validation_targets) for own in validation], len(task.validation)
        ),
        test=score_interval([scorer(tested, own, targets) for own in test], rows),
        gain=gain,
    )
