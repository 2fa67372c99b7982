"""After selection: the winner's test score, read once, and its bundle."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from numpy.typing import NDArray

from pipelines.backbone import Backbone
from pipelines.bundle import BundleConfig, write_bundle
from pipelines.checkpoint import load_state
from pipelines.model import build_model
from pipelines.pack import predict
from pipelines.precision import resolve_precision
from pipelines.tokens import EncodedTask, Tokens
from pipelines.training import score_outputs, target_scale
from search.storage import bundle_key, checkpoint_key
from search.trial import WorkerContext, load_worker_backbone


@dataclass(frozen=True)
class Winner:
    """A selected trial, and what its bundle is to say.

    Attributes:
        card: the model card's text; `{test}` in it becomes the test scores.
        facts: goes into metrics.json beside the scores.
    """

    task: str
    method: str
    number: int
    text_columns: tuple[str, ...]
    card: str
    facts: dict[str, Any]


def finish_winner(
    context: WorkerContext,
    winner: Winner,
    test: Tokens,
    targets: NDArray[Any],
    *,
    backbone: Backbone | None = None,
) -> dict[str, float]:
    """Score the winner's best epoch on the test set and write its bundle; returns the test scores.

    Can be repeated: the bundle takes the place of one that an earlier, killed driver wrote.

    Args:
        backbone: the job's, where it is loaded already; None: load it, as any worker does.
    """
    data = context.storage.read(checkpoint_key(context.job, winner.task, winner.method, winner.number))
    if data is None:
        raise FileNotFoundError(
            f"the checkpoint of trial {winner.number} is gone; run the job under a new name"
        )
    state = load_state(data)
    task: EncodedTask = ray.get(context.tasks[winner.task])
    backbone = backbone or load_worker_backbone(context)
    model = build_model(backbone, state.config, outputs=task.outputs, pooling=context.pooling)
    model.load(state.best)
    precision = resolve_precision(context.precision, model.bank.values.device)
    mean, std = target_scale(task)
    outputs = predict(model, test, pad_id=backbone.pad_id, precision=precision)
    scores = score_outputs(outputs, task, targets, mean, std)

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
    shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(
            Path(folder),
            config,
            state.best,
            metrics={**winner.facts, "test": scores},
            card=winner.card.replace("{test}", shown),
        )
        context.storage.upload(Path(folder), bundle_key(context.job, winner.task, winner.method))
    return scores
