"""The end of a search: who won, its test score, read once, and its bundle."""

import functools
import itertools
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch

from pipelines.bundle import write_bundle
from pipelines.bundle_files import BundleConfig
from pipelines.encoder.backbone import Backbone
from pipelines.encoder.precision import resolve_precision
from pipelines.epochs import TrainingState, predicted
from pipelines.folds import start_training
from pipelines.method import HeldOut, Outputs, find_method
from pipelines.metrics import METRICS
from pipelines.tasks.encoded import EncodedTask
from pipelines.tasks.kind import Targets
from pipelines.tasks.rows import TaskData
from search.card import ModelCard, describe_certainty, describe_scores, model_card
from search.decisions.confirmation import mean_score, pick_winner, runs_of
from search.decisions.refit import refit_of
from search.decisions.rules import common_failure
from search.errors import StorageError
from search.floor import Floor, FloorTexts, floor_texts, measure_floor, winner_intervals
from search.job.job import SearchJob
from search.leaders import compare_leaders
from search.plan import Plan
from search.progress import Progress
from search.record import Intervals, Leader, Run, Trial, Winner
from search.storage import bundle_key
from search.study import Study
from search.tested import Answers, answers_of, keep_answers
from search.workers.assignment import Assignment
from search.workers.checkpoints import checkpoint_of, read_state, write_state
from search.workers.context import WorkerContext, open_backbone, open_cache
from search.workers.trial import WORKER_RESTARTS

SetScores = dict[str, dict[str, float]]  # by set, then by metric


@dataclass(frozen=True)
class Selection:
    """A selected trial, and what its bundle is to say.

    Attributes:
        number: the trial.
        runs: it and the other complete runs of its configuration, by seed: what their workers are given.
        refits: by trial, what trained it again on all rows, and is tested and exported in its place.
        scores: by trial, its score in the record, or of a refit what it has instead.
        card: the model card, but for the test scores.
        facts: goes into metrics.json beside the scores.
    """

    task: str
    method: str
    number: int
    runs: tuple[Assignment, ...]
    refits: Mapping[int, Assignment]
    scores: Mapping[int, float]
    text_columns: tuple[str, ...]
    card: ModelCard
    facts: dict[str, Any]


@dataclass(frozen=True)
class HeldOutTexts:
    """What the end of a search reads of a task.

    Attributes:
        sets: "test" and further labelled sets, as the winner's method reads them, once in each run.
        validation: the validation set, read so; None for a kind whose scores have no intervals.
        floor: of the baseline, or what an earlier study of the task found of it; None: the job wants none, or
            the kind has none.
    """

    sets: Mapping[str, tuple[HeldOut, Targets]]
    validation: HeldOut | None = None
    floor: FloorTexts | Floor | None = None


@dataclass(frozen=True)
class Scored:
    """What came out of what was held out.

    Attributes:
        sets: by trial, the scores; the winner's among them.
        answers: the winner's on the test set, for the report.
    """

    sets: Mapping[int, SetScores]
    intervals: Intervals | None
    floor: Floor | None
    answers: Answers | None = None


def finish_studies(
    plan: Plan, context: WorkerContext, studies: Sequence[Study], *, cluster: bool, progress: Progress
) -> None:
    """Select each study's winner, read its test score, write its bundle, and note all that in the study."""
    job = plan.job
    rows = {data.task.name: data for data in plan.tasks}
    floors: dict[str, Floor] = {}  # by task, for the next method's study
    for study in studies:
        if study.is_finished:
            continue
        trials = study.trials()
        best = pick_winner(trials, study.leaders)
        if best is None:
            study.fail(_describe_failure(trials, study.stopped))
            continue
        if job.refits and refit_of(trials, best.number) is None:
            study.fail(_describe_failed_refit(trials, best.number))
            continue
        won = _describe_winner(study, best)
        progress.message(f"{study.name}: {won}; reading the test set, writing the bundle")
        leaders = compare_leaders(study, best, context)
        data = rows[study.task]
        texts = _held_out(plan, context, study, best, data, floor=floors.get(study.task))
        arguments = context, _select(study, best, job, data, leaders), texts
        scored: Scored
        if cluster:  # the head may be small: a worker has what a trial needs
            on_worker = ray.remote(finish_winner).options(
                num_cpus=job.resources.cpus, num_gpus=job.resources.gpus, max_retries=WORKER_RESTARTS
            )
            scored = ray.get(on_worker.remote(*arguments))
        else:
            scored = finish_winner(*arguments, backbone=plan.backbone)
        if scored.floor is not None:
            floors[study.task] = scored.floor
        keep_answers(context.storage, job.name, study.method, data, job.max_tokens, scored.answers)
        study.finish(_winner(study, best, scored, leaders))


def _held_out(
    plan: Plan, context: WorkerContext, study: Study, best: Trial, data: TaskData, *, floor: Floor | None
) -> HeldOutTexts:
    method, length = find_method(study.method), plan.job.max_tokens
    config = method.config(best.params, seed=best.seed)
    sets = method.encode_held_out(data, plan.backbone, length, config, plan.vectors)
    if data.rules.per_token:
        return HeldOutTexts(sets)
    validation = None
    if data.folds is None:
        validating = replace(data, test=data.validation, also={})
        validation = method.encode_held_out(validating, plan.backbone, length, config, plan.vectors)["test"][
            0
        ]
    if plan.job.baseline == "none" or floor is not None:
        return HeldOutTexts(sets, validation, floor)
    task: EncodedTask = ray.get(context.tasks[study.task])
    return HeldOutTexts(sets, validation, floor_texts(task, data, plan.backbone, refit=plan.job.refits))


def _winner(study: Study, best: Trial, scored: Scored, leaders: tuple[Leader, ...]) -> Winner:
    metric = study.facts.metric
    validation = best.validation(metric)
    if validation is None:
        raise ValueError(f"trial {best.number} has no score")
    trials = study.trials()
    refits = {trial.refits: trial.number for trial in trials if trial.state == "complete"}
    runs = [
        Run(run.number, run.seed, value, scored.sets[run.number]["test"], refits.get(run.number))
        for run in runs_of(trials, best)
        if (value := run.validation(metric)) is not None and run.number in scored.sets
    ]
    return Winner(
        trial=best.number,
        metric=metric,
        validation=validation,
        test=scored.sets[best.number]["test"],
        also={name: values for name, values in scored.sets[best.number].items() if name != "test"},
        runs=tuple(runs),
        bundle=bundle_key(study.job, study.task, study.method),
        intervals=scored.intervals,
        baseline=None if scored.floor is None else scored.floor.baseline,
        refit=refits.get(best.number),
        leaders=leaders,
    )


def finish_winner(
    context: WorkerContext,
    selection: Selection,
    held_out: HeldOutTexts,
    *,
    backbone: Backbone | None = None,
) -> Scored:
    """Score the best epoch of the winner's runs on what is held out, and write the winner's bundle.

    Can be repeated: the bundle takes the place of one that an earlier, killed driver wrote.

    Args:
        backbone: the job's, where it is loaded already; None: load it, as any worker does.
    """
    task: EncodedTask = ray.get(context.tasks[selection.task])
    backbone = backbone or open_backbone(context)
    method = find_method(selection.method)
    precision = resolve_precision(context.precision, next(backbone.model.parameters()).device)
    scores: dict[int, SetScores] = {}
    validation, test = [], []
    targets = held_out.sets["test"][1]
    answers: Answers | None = None
    states = {run.number: _state_of(run, selection, context, task, backbone) for run in selection.runs}
    final = {
        number: _state_of(refit, selection, context, task, backbone)
        for number, refit in selection.refits.items()
    } or states
    # Outputs are put back into the unit of the targets by what the model was trained on.
    trained = replace(task.refitted(), metrics=task.metrics) if selection.refits else task

    def model_of(state: TrainingState) -> Outputs:
        return method.open_trained(
            backbone,
            task,
            state.config,
            state.best,
            pooling=context.pooling,
            precision=precision,
            vectors=context.vectors_for(state.config),
        )

    for number, state in final.items():
        outputs_of = model_of(state)
        outputs = {name: outputs_of(texts) for name, (texts, _) in held_out.sets.items()}
        scores[number] = {
            name: trained.score(outputs[name], its_targets)
            for name, (_, its_targets) in held_out.sets.items()
        }
        if number == selection.number:
            answers = answers_of(task, outputs["test"], targets, held_out.sets["test"][0])
        known = predicted(states[number])
        if known is None and held_out.validation is not None:  # a checkpoint of before these were kept
            known = (model_of(states[number]) if selection.refits else outputs_of)(held_out.validation)
        if known is not None:
            validation.append(known)
            test.append(outputs["test"])
    floor = held_out.floor
    if isinstance(floor, FloorTexts):
        cache = open_cache(context)
        floor = measure_floor(floor, task, targets, backbone, precision=precision, cache=cache)
    beside = floor if floor is not None and floor.baseline.method != selection.method else None
    intervals = None
    if validation:
        intervals = winner_intervals(task, validation, test, targets, beside, tested=trained)

    state = final[selection.number]
    config = BundleConfig(
        backbone=backbone.name,
        backbone_fingerprint=backbone.fingerprint,
        task=selection.task,
        kind=task.kind,
        text_columns=selection.text_columns,
        labels=task.labels,
        pooling=context.pooling,
        max_tokens=task.max_tokens,
        train=state.config,
        target_mean=trained.scale.mean,
        target_std=trained.scale.std,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(
            Path(folder),
            config,
            method.bundle_tensors(state.config, state.best, context.vectors_for(state.config)),
            metrics={**selection.facts, **scores[selection.number]},
            card=selection.card.fill(
                describe_scores(scores, selection.number),
                describe_certainty(
                    scores[selection.number]["test"],
                    task.metric,
                    intervals,
                    floor.baseline if floor else None,
                ),
            ),
        )
        context.storage.upload(Path(folder), bundle_key(context.job, selection.task, selection.method))
    return Scored(scores, intervals, floor, answers)


def _describe_winner(study: Study, best: Trial) -> str:
    trials = study.trials()
    runs = runs_of(trials, best)
    if len(runs) < 2:
        return f"trial {best.number} won"
    mean = METRICS[study.facts.metric].signed(mean_score(trials, best))
    return f"trial {best.number} won, of {len(runs)} runs with a mean of {mean:.4f}"


def _describe_failure(trials: Sequence[Trial], stopped: str | None) -> str:
    if common_failure(trials) is not None and stopped is not None:
        return stopped
    reasons = sorted({trial.reason or "no reason known" for trial in trials if trial.reason != stopped})
    none = f"no trial of {len(trials)} ended well" + (f": {'; '.join(reasons[:3])}" if reasons else "")
    return none if stopped is None else f"{stopped}, and {none}"


def _describe_failed_refit(trials: Sequence[Trial], number: int) -> str:
    failed = [trial for trial in trials if trial.refits == number]
    reason = failed[-1].reason if failed else None
    why = reason or "no reason known"
    return f"trial {number} won, and could not be trained again on train and validation: {why}"


def _select(
    study: Study, best: Trial, job: SearchJob, data: TaskData, leaders: Sequence[Leader]
) -> Selection:
    trials = study.trials()
    runs = runs_of(trials, best)
    refits = {run.number: refit_of(trials, run.number) for run in runs} if job.refits else {}
    again = {number: refit for number, refit in refits.items() if refit is not None}
    return Selection(
        task=study.task,
        method=study.method,
        number=best.number,
        runs=tuple(Assignment.of(run, study.task) for run in runs),
        refits={number: Assignment.of(refit, study.task) for number, refit in again.items()},
        scores={
            one.number: max(epoch.score for epoch in one.epochs)
            for one in (*runs, *again.values())
            if one.epochs
        },
        text_columns=data.task.text,
        card=model_card(study, best, job, data, leaders),
        facts={
            "job": job.name,
            "trial": best.number,
            "params": dict(best.params),
            "seed": best.seed,
            "epoch": best.best_epoch,
            "validation": dict(best.best.scores) if best.best else {},
            "metric": data.task.metric,
            "positive": data.task.positive,
            "label": data.task.label,
        },
    )


def _state_of(
    run: Assignment, selection: Selection, context: WorkerContext, task: EncodedTask, backbone: Backbone
) -> TrainingState:
    """A run as its checkpoint left it. Where that was lost or damaged, it is trained again, as far as the
    record has it.

    Raises:
        StorageError: trained again, it does not score what the record has.
    """
    state = read_state(context, run)
    if state is not None and _scores_alike(state, selection.scores[run.number]):
        return state
    before = torch.get_num_threads()
    torch.set_num_threads(context.threads or before)  # a worker's: the order of sums depends on it
    try:
        config = run.config()
        make = functools.partial(
            find_method(run.method).make_training,
            backbone,
            config=config,
            pooling=context.pooling,
            precision=context.precision,
            vectors=context.vectors_for(config),
        )
        training = start_training(run.seen(task), make)
        for _ in itertools.islice(training.run(), run.known):
            pass
    finally:
        torch.set_num_threads(before)
    state = training.state()
    if not _scores_alike(state, selection.scores[run.number]):
        raise StorageError(
            f"the checkpoint {context.storage.uri(checkpoint_of(context, run))} is lost or damaged, and "
            f"trained again here its trial scores {max(epoch.score for epoch in state.epochs):.6f}, not "
            f"{selection.scores[run.number]:.6f}. "
            "Put a backup of it in its place, or run the job under a new name"
        )
    write_state(context, run, state)
    return state


def _scores_alike(state: TrainingState, score: float) -> bool:
    return math.isclose(max((epoch.score for epoch in state.epochs), default=math.nan), score, abs_tol=1e-9)
