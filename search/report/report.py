"""A report over jobs: the paper's tables and figures from what their studies hold."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.intervals import Interval
from search.commands import command, storage_options
from search.errors import UserError
from search.record import Winner
from search.report.curves import make_figures
from search.report.figures import figure_files
from search.report.page import Content, html_page, markdown_page
from search.report.series import figure_rows
from search.report.statistics import MethodRuns, Run, configurations_of, counted
from search.report.tables import NONE, Table, make_tables, score_rows, winners_table
from search.results import find_job, open_record
from search.storage import Storage
from search.study import Record, Study
from search.verdict import winner_verdict

PAGE = "report.html"
# What an earlier report may have left that the next one does not write.
OUR_FILES = (
    "report.md",
    "table_?.csv",
    *(f"{name}.csv" for name in ("spans", "costs", "winners", "floors", "studies", "scores")),
    *(f"figure_?.{kind}" for kind in ("csv", "png", "svg")),
)


@dataclass(frozen=True)
class Report:
    """A report: what its page shows, and the rows of scores.csv, a head first."""

    content: Content
    scores: list[list[Any]]


def read_report(names: Sequence[str], storage: Storage) -> Report:
    """The report over some jobs of a storage.

    Raises:
        UserError: no such job or storage; no study is finished; or the jobs do not compare.
    """
    with open_record(storage) as record:
        return make_report(find_jobs(record, names, storage), storage_options(storage))


def find_jobs(record: Record, names: Sequence[str], storage: Storage) -> list[Study]:
    """The studies of some jobs; raises UserError where one is not there."""
    return [study for name in dict.fromkeys(names) for study in find_job(record, name, storage)]


def make_report(studies: Sequence[Study], options: Sequence[str] = ()) -> Report:
    """The report over some studies; raises UserError as `read_report` does.

    Args:
        options: by which a command finds their jobs, such as --storage.
    """
    finished = [study for study in studies if study.winner is not None]
    names = list(dict.fromkeys(study.job for study in studies))
    tasks = collect_runs(studies, options)
    figures, missing = make_figures(tasks)
    content = Content(
        title=f"Report: {', '.join(names)}",
        summary=_summary(studies, finished),
        tables=tuple(make_tables(tasks)),
        figures=tuple(figures),
        missing=tuple(missing),
        details=(winners_table(tasks), *_floors_table(finished), _studies_table(studies)),
    )
    return Report(content, score_rows(tasks))


def collect_runs(studies: Sequence[Study], options: Sequence[str] = ()) -> dict[str, dict[str, MethodRuns]]:
    """What finished studies have, by task and method; arguments and errors as those of `make_report`."""
    finished = [study for study in studies if study.winner is not None]
    names = list(dict.fromkeys(study.job for study in studies))
    if not finished:
        raise UserError(
            f"nothing to report: no study of {', '.join(names)} has a winner yet. "
            f"`{command('results', names[0], *options)}` shows how far it is, "
            f"`{command('resume', names[0], *options)}` goes on."
        )
    _refuse_unlike(finished)
    tasks: dict[str, dict[str, MethodRuns]] = {}
    for study in finished:
        methods = tasks.setdefault(study.task, {})
        if study.winner is not None:
            methods[study.method] = _merge(methods.get(study.method), _method_runs(study, study.winner))
    return tasks


def report_files(report: Report) -> dict[str, bytes]:
    """All files of a report by name; the same report gives the same bytes."""
    content = report.content
    files: dict[str, bytes] = {"scores.csv": csv_bytes(report.scores)}
    for table in (*content.tables, *content.details):
        files[f"{table.key}.csv"] = csv_bytes([table.heads, *table.rows])
    images = {}
    for figure in content.figures:
        drawn = figure_files(figure)
        files |= {f"{figure.key}.csv": csv_bytes(figure_rows(figure)), **drawn}
        images[figure.key] = drawn[f"{figure.key}.svg"]
    files["report.md"] = markdown_page(content).encode()
    files[PAGE] = html_page(content, images).encode()
    return files


def write_report(files: Mapping[str, bytes], folder: Path) -> None:
    """Write a report to a folder: a new or empty one, or that of an earlier report, whose place it takes.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    try:
        if folder.exists() and any(folder.iterdir()) and not (folder / PAGE).is_file():
            raise UserError(f"{folder} is not empty, and no report is in it. Choose another --out.")
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in OUR_FILES:  # a figure of the earlier report that this one does not have
            for old in folder.glob(pattern):
                old.unlink()
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error}). Choose another --out.") from error


def _refuse_unlike(studies: Sequence[Study]) -> None:
    """Refuse studies whose scores cannot stand in one table, naming all that differs."""
    problems = []
    by_task: dict[str, list[Study]] = {}
    for study in studies:
        by_task.setdefault(study.task, []).append(study)
    for task, found in by_task.items():
        metrics = {study.facts.metric: study.job for study in reversed(found)}
        if len(metrics) > 1:
            shown = ", ".join(f"{metric} in {job}" for metric, job in sorted(metrics.items()))
            problems.append(f"task {task} is scored by different metrics: {shown}")
        rows = {study.facts.data_fingerprint: study.job for study in reversed(found)}
        if len(rows) > 1:
            problems.append(f"task {task} has different rows in {', '.join(sorted(rows.values()))}")
    encoders = {study.facts.backbone_fingerprint: study.job for study in reversed(studies)}
    if len(encoders) > 1:
        problems.append(f"the encoders of {', '.join(sorted(encoders.values()))} are different ones")
    if problems:
        lines = "".join(f"  {problem}\n" for problem in problems)
        raise UserError(f"these jobs do not compare:\n{lines}Make a report of each on its own.")


def _method_runs(study: Study, winner: Winner) -> MethodRuns:
    tests = _test_scores(winner, study.facts.metric)
    runs = {}
    # Of two runs of a configuration and seed the first counts: not the one that was stopped early.
    for trial in sorted(study.trials(), key=lambda trial: trial.state != "complete"):
        score, value = trial.score, trial.validation(study.facts.metric)
        if trial.state not in ("complete", "pruned") or score is None or value is None:
            continue
        runs[trial.number] = Run(
            params=trial.params,
            seed=trial.seed,
            validation=value,
            score=score,
            trained=trial.size,
            test=tests.get(trial.number),
            source=f"{study.name} trial {trial.number}",
        )
    winning = runs[winner.trial]
    configurations = configurations_of([winning, *runs.values()])
    return MethodRuns(
        task=study.task,
        method=study.method,
        metric=study.facts.metric,
        kind=_kind(study),
        backbone=study.facts.backbone_parameters,
        configurations=configurations,
        winner=configurations[0],
        winning_run=winning,
        facts={"mlflow_run_id": study.mlflow_run_id},
    )


def _test_scores(winner: Winner, metric: str) -> dict[int, float]:
    """The test scores that were read, by trial: the winner's, and those of its runs with further seeds."""
    return {run.trial: run.test[metric] for run in winner.runs} | {winner.trial: winner.test[metric]}


def _kind(study: Study) -> str:
    """The kind of a study's task, as its job has it."""
    for task in study.facts.content.get("tasks", ()):
        if task["name"] == study.task:
            return str(task["kind"])
    return "classification"


def _merge(first: MethodRuns | None, second: MethodRuns) -> MethodRuns:
    """Two jobs' runs of one task and method: all of them, and the winner with the better validation score."""
    if first is None:
        return second
    better, other = (
        (first, second) if first.winning_run.score >= second.winning_run.score else (second, first)
    )
    runs = [run for one in (better, other) for config in one.configurations for run in config.runs]
    configurations = configurations_of([better.winning_run, *runs])
    return MethodRuns(
        task=better.task,
        method=better.method,
        metric=better.metric,
        kind=better.kind,
        backbone=better.backbone,
        configurations=configurations,
        winner=configurations[0],
        winning_run=better.winning_run,
        facts=better.facts,
    )


def _summary(studies: Sequence[Study], finished: Sequence[Study]) -> str:
    """What the report is about, in two lines."""
    encoder, parameters = finished[0].facts.encoder, finished[0].facts.backbone_parameters
    trials = sum(len(study.trials()) for study in finished)
    left = len(studies) - len(finished)
    return (
        f"Encoder: {encoder}{', ' if encoder else ''}{parameters:,} parameters. "
        f"In the report: {counted(len(finished), 'study')} (a task with a method) with "
        f"{counted(trials, 'trial')}"
        + (f"; left out: {left}, see the end." if left else ".")
        + " Validation chose; test scores were read afterwards."
    )


def _floors_table(studies: Sequence[Study]) -> list[Table]:
    """How sure the winners' test scores are, and what a linear probe has; no table where none is known."""
    rows = []
    for study in studies:
        winner, metric = study.winner, study.facts.metric
        if winner is None or winner.baseline is None or winner.intervals is None:
            continue
        rows.append(
            (
                study.name,
                metric,
                f"{winner.test[metric]:.4f}",
                _interval(winner.intervals.test),
                f"{winner.baseline.test:.4f}",
                f"{winner.baseline.majority:.4f}",
                _interval(winner.intervals.gain, sign="+"),
                winner_verdict(winner) or NONE,
            )
        )
    heads = (
        "study",
        "metric",
        "test",
        "test, 95 %",
        "probe",
        "one answer for all",
        "gain over the probe, 95 %",
        "verdict",
    )
    notes = (
        "The probe is a regularised linear model on the frozen encoder's vectors. Intervals: bootstrap over "
        "test rows, the same rows for both models, and over seeds where there are several; raw scores.",
    )
    return [Table("floors", "Winners beside a linear probe", heads, tuple(rows), notes)] if rows else []


def _interval(ends: Interval | None, *, sign: str = "") -> str:
    return NONE if ends is None else " to ".join(f"{end:{sign}.4f}" for end in ends)


def _studies_table(studies: Sequence[Study]) -> Table:
    """What is in the report, and what of these jobs is not."""
    rows = []
    for study in studies:
        trials, sizes, folds = study.trials(), study.facts.sizes, study.facts.folds
        counts = Counter(trial.state for trial in trials)
        state = f"left out: {study.failure or 'not finished'}" if study.winner is None else "in the report"
        rows.append(
            (
                study.name,
                " / ".join(
                    f"{sizes[one]:,}" + (f" in {folds} folds" if folds and one == "train" else "")
                    for one in ("train", "validation", "test")
                    if one in sizes
                )
                or NONE,
                *(str(counts[one]) for one in ("complete", "pruned", "failed")),
                f"{sum(trial.seconds for trial in trials) / 60:.1f}",
                state,
            )
        )
    heads = ("study", "rows train / validation / test", "complete", "pruned", "failed", "minutes", "state")
    notes = (
        "Complete, pruned and failed count trials; minutes are of training, over all trials. A pruned trial "
        "was stopped early, and counts with its best epoch.",
    )
    return Table("studies", "What this is from", heads, tuple(rows), notes)


def csv_bytes(rows: Sequence[Sequence[Any]]) -> bytes:
    """Rows as a csv file."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
