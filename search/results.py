"""What came of a job: a function of the record. Others rely on the shape of `adaptune results --json`."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.bundle_files import read_files
from pipelines.metrics import METRICS
from search.commands import command
from search.decisions.confirmation import Spread, pick_winner
from search.decisions.selection import pareto_front
from search.errors import UserError
from search.job.values import is_name
from search.liveness import seems_alive
from search.record import Run, Trial
from search.storage import STUDY_DATABASE, Storage
from search.study import Record, Study


def is_finished(studies: Sequence[Study]) -> bool:
    """Whether nothing of a job is left to do: every study has its winner, or is known to have none."""
    return all(study.is_finished for study in studies)


def job_results(studies: Sequence[Study], storage: Storage) -> dict[str, Any]:
    """A job's results: `{"job", "state", "tasks": [...]}`, JSON values only.

    `seconds` is training time, summed over a study's trials. `best` is the winner, or the best trial so far,
    then without test scores and bundle. With `folds`, validation scores are of all rows, each predicted by a
    model that was not trained on it. `refit` is the trial that was tested and exported in the winner's place.
    `leaders` are the configurations in front, the winner's first, then by their means, and whether the best
    of them is better than chance explains; empty before the end, and where they could not be compared.
    """
    running = seems_alive(studies[0].driver)
    tasks = [_study_results(study, storage, running=running) for study in studies]
    states = {task["state"] for task in tasks}
    state = next(state for state in ("running", "interrupted", "failed", "finished") if state in states)
    return {"job": studies[0].job, "state": state, "tasks": tasks}


def read_results(name: str, storage: Storage) -> dict[str, Any]:
    """`job_results` of a job by its name.

    Raises:
        UserError: the storage has no such job.
    """
    with open_record(storage) as record:
        return job_results(find_job(record, name, storage), storage)


def has_record(storage: Storage) -> bool:
    """Whether there are studies in a storage, as far as can be seen without opening it.

    Raises:
        UserError: they may not be read.
    """
    if storage.database is not None or not storage.is_folder:
        return storage.database is not None
    return storage.has(STUDY_DATABASE)


def open_record(storage: Storage) -> Record:
    """The record of a storage that must exist already; raises UserError where there is none."""
    if not has_record(storage):
        raise UserError(
            f"no jobs under {storage.root}: it has no {STUDY_DATABASE}. Name the right folder with "
            "--storage, or with --database the database that the job file names."
        )
    return Record(storage)


def find_job(record: Record, name: str, storage: Storage) -> tuple[Study, ...]:
    """A job's studies; raises UserError, naming the jobs there are, where it has none."""
    studies = tuple(study for study in record.studies(name) if study.is_made)
    if not studies:
        known = ", ".join(record.jobs()) or "none"
        raise UserError(f"no job {name!r} under {storage.root}. Jobs there: {known}.")
    return studies


def select_task(results: dict[str, Any], task: str | None) -> dict[str, Any]:
    """The results of one task, or of all; raises UserError, naming the tasks, where there is no such task."""
    entries = [entry for entry in results["tasks"] if task in (None, entry["task"])]
    if not entries:
        known = ", ".join(dict.fromkeys(entry["task"] for entry in results["tasks"]))
        raise UserError(f"job {results['job']!r} has no task {task!r}. Its tasks: {known}.")
    return {**results, "tasks": entries}


def export_bundles(
    results: dict[str, Any],
    out: Path,
    *,
    task: str | None = None,
    fetch: Callable[[str, Path], None],
    options: Sequence[str] = (),
) -> dict[str, Path]:
    """Copy the best bundle of each task, over all its methods, to out/<task>; returns the folders.

    Args:
        results: as `job_results` gives them.
        fetch: brings the folder at a bundle's address to a local one.
        options: by which a command finds the job, such as --storage.

    Raises:
        UserError: there is no such task, a task has no bundle yet, or a folder there is not empty.
    """
    entries = select_task(results, task)["tasks"]
    best: dict[str, dict[str, Any]] = {}
    finished = [entry for entry in entries if entry["state"] == "finished"]
    for entry in sorted(finished, key=_rank):
        best.setdefault(entry["task"], entry["best"])
    missing = sorted({entry["task"] for entry in entries} - set(best))
    if missing:
        raise UserError(
            f"no bundle yet for {', '.join(missing)}: the job is {results['state']}. "
            f"`{command('results', results['job'], *options)}` shows more; "
            f"`{command('resume', results['job'], *options)}` goes on."
        )
    if wrong := sorted(name for name in best if not is_name(name)):
        raise UserError(f"task {wrong[0]!r} of the results has a name that no folder of ours has.")
    folders = {name: out / name for name in best}
    taken = [
        str(folder)
        for folder in folders.values()
        if folder.is_file() or (folder.exists() and any(folder.iterdir()))
    ]
    if taken:
        raise UserError(f"{', '.join(taken)} is not empty. Choose another --out, or empty it first.")
    for name, folder in folders.items():
        fetch(best[name]["bundle"], folder)
        read_files(folder)  # whole, as it was written
    return folders


def _rank(entry: Mapping[str, Any]) -> tuple[float, int]:
    """The best first, whichever way its metric is better; then the smaller."""
    best = entry["best"]
    return -METRICS[entry["metric"]].signed(best["validation"]), best["trained_parameters"]


def _study_results(study: Study, storage: Storage, *, running: bool) -> dict[str, Any]:
    trials = study.trials()
    counts = Counter(trial.state for trial in trials if trial.searched)
    if study.winner is not None:
        state = "finished"
    elif study.failure is not None:
        state = "failed"
    else:
        state = "running" if running else "interrupted"
    return {
        "task": study.task,
        "method": study.method,
        "metric": study.facts.metric,
        "state": state,
        "reason": study.failure or study.stopped or _describe_exhausted(study),
        "trials": {name: counts[name] for name in ("complete", "pruned", "failed", "running", "paused")},
        "retries": [trial.retries for trial in trials if trial.retries is not None],
        "confirmations": [_confirmation(t, study.facts.metric) for t in trials if t.confirms is not None],
        "front": [_on_front(trial, study.facts.metric) for trial in pareto_front(trials)]
        if study.facts.seeks_front
        else None,
        "seconds": round(sum(trial.seconds for trial in trials), 3),
        "best": _best(study, storage),
        "baseline": asdict(study.winner.baseline) if study.winner and study.winner.baseline else None,
        "folds": study.facts.folds,
        "leaders": [
            {"params": dict(trials[leader.trial].params), **asdict(leader), "seeds": list(leader.seeds)}
            for leader in (study.winner.leaders if study.winner else ())
        ],
    }


def _describe_exhausted(study: Study) -> str | None:
    return "every configuration of the space has been tried" if study.exhausted else None


def _on_front(trial: Trial, metric: str) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "params": dict(trial.params),
        "validation": trial.validation(metric),
        "trained_parameters": trial.size,
    }


def _confirmation(trial: Trial, metric: str) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "confirms": trial.confirms,
        "seed": trial.seed,
        "state": trial.state,
        "reason": trial.reason,
        "validation": trial.validation(metric),
    }


def _spreads(runs: Sequence[Run], metric: str) -> dict[str, Any] | None:
    """Mean and standard error over the winner's seeds, where it was confirmed."""
    if len(runs) < 2:
        return None
    validation = Spread.of([run.validation for run in runs])
    test = Spread.of([run.test[metric] for run in runs])
    return {"runs": [asdict(run) for run in runs], "validation": asdict(validation), "test": asdict(test)}


def _ends(intervals: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if ends is None else list(ends) for name, ends in intervals.items()}


def _best(study: Study, storage: Storage) -> dict[str, Any] | None:
    trials, winner, metric = study.trials(), study.winner, study.facts.metric
    best = trials[winner.trial] if winner else pick_winner(trials, study.leaders)
    if best is None:
        return None
    return {
        "trial": best.number,
        "params": dict(best.params),
        "seed": best.seed,
        "validation": best.validation(metric),
        "test": winner.test[metric] if winner else None,
        "also": {name: scores[metric] for name, scores in winner.also.items()} if winner else {},
        "interval": _ends(asdict(winner.intervals)) if winner and winner.intervals else None,
        "seeds": _spreads(winner.runs, metric) if winner else None,
        "refit": winner.refit if winner else None,
        "trained_parameters": best.size,
        "trained_fraction": best.size / study.facts.backbone_parameters,
        "mlflow_run_id": study.mlflow_run_id,
        "bundle": storage.uri(winner.bundle) if winner else None,
    }
