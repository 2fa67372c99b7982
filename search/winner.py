"""After selection: the winner's test score, read once, and its bundle."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from pipelines.backbone import Backbone
from pipelines.bundle import BundleConfig, write_bundle
from pipelines.checkpoint import load_state
from pipelines.model import build_model
from pipelines.pack import predict
from pipelines.precision import resolve_precision
from pipelines.tokens import EncodedTask, Targets, Tokens
from pipelines.training import TrainingState, score_outputs, target_scale
from search.confirmation import Spread
from search.storage import bundle_key, checkpoint_key
from search.trial import WorkerContext, open_backbone


@dataclass(frozen=True)
class Winner:
    """A selected trial, and what its bundle is to say.

    Attributes:
        number: the trial.
        runs: it and the other complete runs of its configuration, by seed.
        card: the model card's text; `{test}` in it becomes the test scores.
        facts: goes into metrics.json beside the scores.
    """

    task: str
    method: str
    number: int
    runs: tuple[int, ...]
    text_columns: tuple[str, ...]
    card: str
    facts: dict[str, Any]


def finish_winner(
    context: WorkerContext,
    winner: Winner,
    test: Tokens,
    targets: Targets,
    also: Mapping[str, tuple[Tokens, Targets]],
    *,
    backbone: Backbone | None = None,
) -> dict[int, dict[str, float]]:
    """Score the best epoch of the winner's runs on the test set, once each, and write the winner's bundle.

    Returns the test scores by trial, the winner's among them, by metric; those of further sets beside them,
    as SET_METRIC. Can be repeated: the bundle takes the place of one that an earlier, killed driver wrote.

    Args:
        also: further labelled sets, scored like the test set.
        backbone: the job's, where it is loaded already; None: load it, as any worker does.
    """
    task: EncodedTask = ray.get(context.tasks[winner.task])
    backbone = backbone or open_backbone(context)
    mean, std = target_scale(task)
    scores: dict[int, dict[str, float]] = {}
    for number in winner.runs:
        state = _read_state(context, winner, number)
        model = build_model(
            backbone,
            state.config,
            outputs=task.outputs,
            pooling=context.pooling,
            spans=task.kind == "span",
        )
        model.load(state.best)
        precision = resolve_precision(context.precision, model.bank.values.device)
        scores[number] = {}
        for name, (tokens, wanted) in {"": (test, targets), **also}.items():
            outputs = predict(model, tokens, pad_id=backbone.pad_id, precision=precision)
            found = score_outputs(outputs, task, wanted, mean, std)
            scores[number] |= {f"{name}_{metric}" if name else metric: s for metric, s in found.items()}

    state = _read_state(context, winner, winner.number)
    config = BundleConfig(
        backbone=backbone.name,
        backbone_fingerprint=backbone.fingerprint,
        task=winner.task,
        kind=task.kind,
        text_columns=winner.text_columns,
        labels=task.labels,
        pooling=context.pooling,
        max_tokens=task.max_tokens,
        train=state.config,
        target_mean=mean,
        target_std=std,
    )
    own = scores[winner.number]
    shown = ", ".join(f"{name} {value:.4f}" for name, value in own.items())
    if len(scores) > 1:
        spreads = {name: Spread.of([one[name] for one in scores.values()]) for name in own}
        shown += f"; over {len(scores)} seeds: " + ", ".join(f"{name} {s}" for name, s in spreads.items())
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(
            Path(folder),
            config,
            state.best,
            metrics={**winner.facts, "test": own},
            card=winner.card.replace("{test}", shown),
        )
        context.storage.upload(Path(folder), bundle_key(context.job, winner.task, winner.method))
    return scores


def _read_state(context: WorkerContext, winner: Winner, number: int) -> TrainingState:
    data = context.storage.read(checkpoint_key(context.job, winner.task, winner.method, number))
    if data is None:
        raise FileNotFoundError(f"the checkpoint of trial {number} is gone; run the job under a new name")
    return load_state(data)
