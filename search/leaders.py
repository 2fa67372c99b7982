"""Which configurations of a search are in front and cannot be told apart, by what they predicted.

Read from the checkpoints: the outputs for the validation set of each trial's best epoch, in folds for all
rows.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import ray
from numpy.typing import NDArray

from pipelines.epochs import predicted
from pipelines.intervals import contenders, scorer
from pipelines.metrics import METRICS
from pipelines.tasks.encoded import EncodedTask
from search.decisions.confirmation import epochs_to_spend, leading, next_round, runs_of
from search.job.parts import ConfirmPart
from search.record import Leader, Leaders, Trial
from search.study import Study
from search.workers.assignment import Assignment
from search.workers.checkpoints import read_state
from search.workers.context import WorkerContext

Outputs = NDArray[np.float64]  # (rows, outputs)


def find_leaders(
    trials: Sequence[Trial],
    *,
    study: Study,
    context: WorkerContext,
    confirm: ConfirmPart,
    say: Callable[[str], None],
) -> Leaders:
    """The trials of an ended search that cannot be told apart from its best, and what they may cost.

    Args:
        trials: the study's; one of them has a score.
        say: told what is run again, and why; or that the budget does not do for it.
    """
    task: EncodedTask = ray.get(context.tasks[study.task])
    compared = [
        (trial, outputs) for trial in leading(trials) for outputs in _outputs([trial], study, context)
    ]
    may_be_best = _contenders(task, [[outputs] for _, outputs in compared])
    alike = [trial for (trial, _), may_be in zip(compared, may_be_best, strict=True) if may_be]
    best = leading(trials)[0]
    if best not in alike:  # what it predicted is lost, or of before such things were kept
        alike = [best]
    leaders = Leaders(
        tuple(trial.number for trial in alike),
        epochs_to_spend(trials, confirm.budget or 0.0),
        confirm.export or "nearest",
    )
    if len(alike) > 1:
        say(f"{study.name}: {_describe(trials, leaders, len(compared))}")
    return leaders


def compare_leaders(study: Study, winner: Trial, context: WorkerContext) -> tuple[Leader, ...]:
    """The leading configurations with all runs that they have, and which cannot be told apart from the best.

    The winner's first, then by their means. Empty where the winner's cannot be compared: its task has outputs
    for every token, or its checkpoint is lost or of before they were kept.
    """
    trials, metric = study.trials(), study.facts.metric
    task: EncodedTask = ray.get(context.tasks[study.task])
    first = trials[winner.number if winner.confirms is None else winner.confirms]
    candidates = {trial.number: trial for trial in (first, *leading(trials))}
    found = []
    for trial in candidates.values():
        runs = runs_of(trials, trial)
        outputs = _outputs(runs, study, context)
        if len(outputs) == len(runs):
            found.append((trial, runs, outputs))
    if first not in [trial for trial, *_ in found]:
        return ()
    alike = _contenders(task, [outputs for *_, outputs in found])
    leaders = [
        Leader(
            trial=trial.number,
            seeds=tuple(run.seed for run in (trial, *(one for one in runs if one.number != trial.number))),
            mean=float(np.mean([run.validation(metric) for run in runs])),
            told_apart=trial is not first and not may_be_best,
        )
        for (trial, runs, _), may_be_best in zip(found, alike, strict=True)
    ]
    signed = METRICS[metric].signed
    return tuple(sorted(leaders, key=lambda one: (one.trial != first.number, -signed(one.mean), one.trial)))


def _contenders(task: EncodedTask, candidates: Sequence[Sequence[Outputs]]) -> list[bool]:
    if len(candidates) < 2:
        return [True] * len(candidates)
    targets = task.validation_targets
    scorers = [[scorer(task, outputs, targets) for outputs in runs] for runs in candidates]
    return contenders(scorers, len(targets), better=METRICS[task.metric].better)


def _outputs(runs: Sequence[Trial], study: Study, context: WorkerContext) -> list[Outputs]:
    """What some trials predicted after their best epochs, of those of which it is known."""
    found = []
    for run in runs:
        state = read_state(context, Assignment.of(run, study.task))
        outputs = None if state is None else predicted(state)
        if state is not None and outputs is not None:
            score = max(epoch.score for epoch in state.epochs)
            if run.score is not None and math.isclose(score, run.score, abs_tol=1e-9):  # that very epoch's
                found.append(outputs)
    return found


def _describe(trials: Sequence[Trial], leaders: Leaders, compared: int) -> str:
    many, numbers = len(leaders.trials), ", ".join(map(str, leaders.trials))
    alike = f"{many} of the {compared} leading configurations cannot be told apart (trials {numbers})"
    cost = sum(trials[number].schedule for number in leaders.trials[:2])
    if cost > leaders.epochs:
        spent = sum(len(trial.epochs) for trial in trials if trial.searched)
        return (
            f"{alike}; to run two of them again takes {cost} epochs, and confirm.budget allows "
            f"{leaders.epochs}: confirm: {{budget: {math.ceil(100 * cost / spent) / 100:g}}} would do"
        )
    paid, missing = next_round(trials, leaders)
    if not missing:  # of a search that was opened once more
        return f"{alike}; they have been run again"
    seeds = ", ".join(map(str, sorted({seed for _, seed in missing})))
    which = "each" if len(paid) == many else f"the first {len(paid)}"
    return f"{alike}; {which} again with seed {seeds}, in at most {leaders.epochs} epochs"
