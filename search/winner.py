"""The end of a search: who won, its test score, read once, and its bundle."""

import itertools
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from pipelines.bundle import BundleConfig, write_bundle
from pipelines.encoder.backbone import Backbone
from pipelines.encoder.precision import resolve_precision
from pipelines.epochs import TrainingState
from pipelines.method import HeldOut, find_method
from pipelines.tasks.encoded import EncodedTask
from pipelines.tasks.kind import Targets
from pipelines.tasks.rows import TaskData
from search.card import ModelCard, model_card
from search.decisions.confirmation import Spread, runs_of
from search.decisions.rules import common_failure
from search.decisions.selection import pick_best
from search.errors import StorageError
from search.job.job import SearchJob
from search.plan import Plan
from search.progress import Progress
from search.searcher import trial_config
from search.storage import bundle_key
from search.study import Study, TrialRecord
from search.workers.trial import (
    WORKER_RESTARTS,
    WorkerContext,
    checkpoint_of,
    open_backbone,
    read_state,
    train_config,
    write_state,
)

SetScores = dict[str, dict[str, float]]  # by set, then by metric


@dataclass(frozen=True)
class Winner:
    """A selected trial, and what its bundle is to say.

    Attributes:
        number: the trial.
        runs: it and the other complete runs of its configuration, by seed: what their workers were given.
        scores: by trial, the validation score in the record.
        card: the model card, but for the test scores.
        facts: goes into metrics.json beside the scores.
    """

    task: str
    method: str
    number: int
    runs: tuple[Mapping[str, Any], ...]
    scores: Mapping[int, float]
    text_columns: tuple[str, ...]
    card: ModelCard
    facts: dict[str, Any]


def finish_studies(
    plan: Plan, context: WorkerContext, studies: Sequence[Study], *, cluster: bool, progress: Progress
) -> None:
    """Select each study's winner, read its test score, write its bundle, and note all that in the study."""
    job = plan.job
    data = {one.task.name: one for one in plan.tasks}
    for study in studies:
        if "winner" in study.attributes or "failure" in study.attributes:
            continue
        trials = study.trials()
        best = pick_best(trials)
        if best is None:
            study.note("failure", _describe_failure(trials, study.attributes.get("stopped")))
            continue
        progress.message(f"{study.name}: trial {best.number} won; reading the test set, writing the bundle")
        task, method = data[study.task], find_method(study.method)
        arguments = (
            context,
            _winner(study, best, job, task),
            method.encode_held_out(
                task,
                plan.backbone,
                job.max_tokens,
                method.config(best.params, seed=best.seed),
                plan.vectors,
            ),
        )
        scores: dict[int, SetScores]
        if cluster:  # the head may be small: a worker has what a trial needs
            on_worker = ray.remote(finish_winner).options(
                num_cpus=job.resources.cpus, num_gpus=job.resources.gpus, max_retries=WORKER_RESTARTS
            )
            scores = ray.get(on_worker.remote(*arguments))
        else:
            scores = finish_winner(*arguments, backbone=plan.backbone)
        runs = [
            {
                "trial": run.number,
                "seed": run.seed,
                "validation": run.score,
                "test": scores[run.number]["test"],
            }
            for run in runs_of(trials, best)
        ]
        own = scores[best.number]
        study.note(
            "winner",
            {
                "trial": best.number,
                "metric": study.attributes["metric"],
                "validation": best.score,
                "test": own["test"],
                "also": {name: found for name, found in own.items() if name != "test"},
                "runs": runs,
                "bundle": bundle_key(job.name, study.task, study.method),
            },
        )


def finish_winner(
    context: WorkerContext,
    winner: Winner,
    held_out: Mapping[str, tuple[HeldOut, Targets]],
    *,
    backbone: Backbone | None = None,
) -> dict[int, SetScores]:
    """Score the best epoch of the winner's runs on what is held out, and write the winner's bundle.

    Returns the scores by trial, the winner's among them. Can be repeated: the bundle takes the place of one
    that an earlier, killed driver wrote.

    Args:
        held_out: "test" and further labelled sets; each is read once by each run.
        backbone: the job's, where it is loaded already; None: load it, as any worker does.
    """
    task: EncodedTask = ray.get(context.tasks[winner.task])
    backbone = backbone or open_backbone(context)
    method = find_method(winner.method)
    precision = resolve_precision(context.precision, next(backbone.model.parameters()).device)
    scores: dict[int, SetScores] = {}
    states = {run["number"]: _state_of(run, winner, context, task, backbone) for run in winner.runs}
    for number, state in states.items():
        outputs = method.open_trained(
            backbone,
            task,
            state.config,
            state.best,
            pooling=context.pooling,
            precision=precision,
            vectors=context.vectors_for(state.config),
        )
        scores[number] = {
            name: task.score(outputs(texts), targets) for name, (texts, targets) in held_out.items()
        }

    state = states[winner.number]
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
        target_mean=task.scale.mean,
        target_std=task.scale.std,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(
            Path(folder),
            config,
            method.bundle_tensors(state.config, state.best, context.vectors_for(state.config)),
            metrics={**winner.facts, **scores[winner.number]},
            card=winner.card.fill(_describe_scores(scores, winner.number)),
        )
        context.storage.upload(Path(folder), bundle_key(context.job, winner.task, winner.method))
    return scores


def _describe_scores(scores: Mapping[int, SetScores], winner: int) -> str:
    """The winner's scores, and where it was confirmed, those over its seeds."""
    shown = []
    for name, own in scores[winner].items():
        line = ("" if name == "test" else f"{name} ") + ", ".join(
            f"{key} {value:.4f}" for key, value in own.items()
        )
        if len(scores) > 1:
            spreads = {key: Spread.of([one[name][key] for one in scores.values()]) for key in own}
            line += f"; over {len(scores)} seeds: " + ", ".join(f"{key} {s}" for key, s in spreads.items())
        shown.append(line)
    return "; ".join(shown)


def _describe_failure(trials: Sequence[TrialRecord], stopped: str | None) -> str:
    if common_failure(trials) is not None and stopped is not None:
        return stopped
    reasons = sorted({trial.reason or "no reason known" for trial in trials if trial.reason != stopped})
    none = f"no trial of {len(trials)} ended well" + (f": {'; '.join(reasons[:3])}" if reasons else "")
    return none if stopped is None else f"{stopped}, and {none}"


def _winner(study: Study, best: TrialRecord, job: SearchJob, data: TaskData) -> Winner:
    runs = runs_of(study.trials(), best)
    return Winner(
        task=study.task,
        method=study.method,
        number=best.number,
        runs=tuple(trial_config(study, run.number) for run in runs),
        scores={run.number: run.score for run in runs if run.score is not None},
        text_columns=data.task.text,
        card=model_card(study, best, job, data),
        facts={
            "job": job.name,
            "trial": best.number,
            "params": dict(best.params),
            "seed": best.seed,
            "epoch": best.best_epoch,
            "validation": dict(best.epochs[(best.best_epoch or 1) - 1]["scores"]),
            "metric": data.task.metric,
            "positive": data.task.positive,
            "label": data.task.label,
        },
    )


def _state_of(
    run: Mapping[str, Any], winner: Winner, context: WorkerContext, task: EncodedTask, backbone: Backbone
) -> TrainingState:
    """A run as its checkpoint left it. Where that was lost or damaged, it is trained again, as far as the
    record has it.

    Raises:
        StorageError: trained again, it does not score what the record has.
    """
    number = run["number"]
    state = read_state(context, run)
    if state is not None and _scores_alike(state, winner.scores[number]):
        return state
    before = torch.get_num_threads()
    torch.set_num_threads(context.threads or before)  # a worker's: the order of sums depends on it
    try:
        config = train_config(run)
        training = find_method(winner.method).make_training(
            backbone,
            task,
            config,
            pooling=context.pooling,
            precision=context.precision,
            vectors=context.vectors_for(config),
        )
        for _ in itertools.islice(training.run(), run["known"]):
            pass
    finally:
        torch.set_num_threads(before)
    state = training.state()
    if not _scores_alike(state, winner.scores[number]):
        raise StorageError(
            f"the checkpoint {context.storage.uri(checkpoint_of(context, run))} is lost or damaged, and "
            f"trained again here its trial scores {max(epoch.score for epoch in state.epochs):.6f}, not "
            f"{winner.scores[number]:.6f}. Put a backup of it in its place, or run the job under a new name"
        )
    write_state(context, run, state)
    return state


def _scores_alike(state: TrainingState, score: float) -> bool:
    return math.isclose(max((epoch.score for epoch in state.epochs), default=math.nan), score, abs_tol=1e-9)
