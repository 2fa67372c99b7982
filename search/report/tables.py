"""The tables of a report, in the form of the paper's, its own rows beside ours where the task is the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.method import METHODS
from search.report.curves import suite_of
from search.report.paper import METHODS as PAPER_METHODS
from search.report.paper import (
    SQUAD,
    TABLE_1,
    TABLE_1_COSTS,
    TABLE_1_MEANS,
    TABLE_2,
    TABLE_2_COSTS,
    Cost,
    PaperTask,
    Score,
)
from search.report.series import Tasks
from search.report.statistics import POINTS, Mean, MethodRuns, Unit, counted, total_encoders, trained_share
from search.tables import format_params

NONE = "-"  # for a cell without a number


@dataclass(frozen=True)
class Table:
    """A table as it is shown; cells are text.

    Attributes:
        key: its file's name, as in table_1.csv.
        notes: what a reader must know of it.
    """

    key: str
    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def make_tables(tasks: Tasks) -> list[Table]:
    """The paper's tables for the tasks at hand."""
    spans = {t: m for t, m in tasks.items() if any(runs.rules.per_token for runs in m.values())}
    glue = {t: m for t, m in tasks.items() if t not in spans and suite_of(t) == "GLUE"}
    others = {t: m for t, m in tasks.items() if t not in spans and t not in glue}
    made = [
        _suite_by_method("table_1", "Table 1: GLUE", glue) if glue else None,
        _suite_by_task("table_2", "Table 2: tasks outside GLUE", others) if others else None,
        _spans(spans) if spans else None,
        _costs(tasks),
    ]
    return [table for table in made if table is not None]


def methods_of(tasks: Tasks) -> tuple[str, ...]:
    """All methods of the tasks, in the order of the paper's tables, then those it has none of."""
    found = {method for methods in tasks.values() for method in methods}
    order = [*PAPER_METHODS, *(name for name in METHODS if name not in PAPER_METHODS)]
    return tuple(name for name in order if name in found) + tuple(sorted(found - {*order}))


def name_of(method: str) -> str:
    """What tables call a method; one that is not known here by its own name."""
    return METHODS[method].label if method in METHODS else method


def _keeps_no_encoder(method: str) -> bool:
    return method in METHODS and METHODS[method].keeps == "no encoder"


def score_rows(tasks: Tasks) -> list[list[Any]]:
    """Every task and method with all figures as numbers, with a head; scores are as metrics have them."""
    rows: list[list[Any]] = [
        [
            "task",
            "method",
            "metric",
            "validation",
            "validation_sem",
            "validation_seeds",
            "test",
            "test_sem",
            "test_seeds",
            "trained_parameters",
            "trained_fraction",
            "encoder_parameters",
            "params",
            "run",
            "mlflow_run_id",
        ]
    ]
    for found in _each(tasks):
        test = found.winner.test or ("", "", 0)
        cells = [*found.winner.validation, *test]
        rows.append(
            [
                found.task,
                found.method,
                found.metric,
                *("" if cell is None else cell for cell in cells),
                found.winner.trained,
                found.trained_fraction,
                found.backbone,
                format_params(found.winner.params),
                found.winning_run.source,
                found.facts.get("mlflow_run_id") or "",
            ]
        )
    return rows


def _suite_by_method(key: str, title: str, tasks: Tasks) -> Table:
    """Rows are methods, columns tasks, as in the paper's Table 1."""
    shared = _shared(tasks)
    rows = []
    for method in methods_of(tasks):
        found = {task: methods[method] for task, methods in tasks.items() if method in methods}
        cells = [_test_score(found[task]) if task in found else NONE for task in tasks]
        mean = _mean([found[task].winner.test for task in shared])
        rows.append((f"ours: {name_of(method)}", *_cost_cells(method, found), *cells, mean))
    alike = [task for task in tasks if _paper_task(TABLE_1, task, tasks[task])]
    for method, cost in TABLE_1_COSTS.items() if alike else ():
        scores = {task: TABLE_1[task].scores[method] for task in alike}
        cells = [_paper_cell(scores.get(task)) for task in tasks]
        mean = _paper_mean([scores.get(task) for task in shared])
        rows.append((f"paper: {method}", *_paper_costs(cost), *cells, mean))
    heads = [f"{task} ({_metric(tasks[task])})" for task in tasks]
    notes = [scores_note("Test scores", tasks), _mean_note(shared, tasks)]
    if alike:
        notes.append(
            "Paper: scores of the GLUE server on its own test sets with BERT_LARGE; its total parameters are "
            "for all nine tasks. Ours are from the test rows of the jobs, so they compare in level only."
        )
        printed = ", ".join(f"{mean} ({method})" for method, mean in TABLE_1_MEANS.items())
        notes.append(
            "Means are of the columns shown, the paper's too; those that it prints for GLUE are not the "
            f"means of its columns: {printed}."
        )
    notes += _different(TABLE_1, tasks)
    return Table(
        key, title, ("", "total params", "trained / task", *heads, "mean"), tuple(rows), tuple(notes)
    )


def _suite_by_task(key: str, title: str, tasks: Tasks) -> Table:
    """Rows are tasks, columns methods, ours and then the paper's, as in its Table 2."""
    ours, shared = methods_of(tasks), _shared(tasks)
    alike = [task for task in tasks if _paper_task(TABLE_2, task, tasks[task])]
    theirs = [PAPER_METHODS[method] for method in ours if method in PAPER_METHODS] if alike else []
    rows = []
    for task, methods in tasks.items():
        scores = TABLE_2[task].scores if task in alike else {}
        rows.append(
            (
                task,
                _metric(methods),
                *(_test_score(methods[method]) if method in methods else NONE for method in ours),
                *(_paper_cell(scores.get(method)) for method in theirs),
            )
        )
    columns = [{t: m[method] for t, m in tasks.items() if method in m} for method in ours]
    costs = [_cost_cells(method, found) for method, found in zip(ours, columns, strict=True)]
    paper_costs = [_paper_costs(TABLE_2_COSTS.get(method)) for method in theirs]
    means = [_mean([found[task].winner.test for task in shared]) for found in columns]
    paper_means = [
        _paper_mean([TABLE_2[task].scores[method] if task in alike else None for task in shared])
        for method in theirs
    ]
    rows.append((f"mean (n = {len(shared)})", "", *means, *paper_means))
    rows.append(("total params", "", *(cost[0] for cost in costs), *(cost[0] for cost in paper_costs)))
    rows.append(("trained / task", "", *(cost[1] for cost in costs), *(cost[1] for cost in paper_costs)))
    heads = ("task", "metric", *(f"ours: {name_of(one)}" for one in ours))
    notes = [scores_note("Test scores", tasks), _mean_note(shared, tasks)]
    if alike:
        notes.append(
            "Paper: BERT_BASE, mean ± s.e.m. over seeds, on splits that are not published; its total "
            "parameters are for all 17 tasks."
        )
    notes += _different(TABLE_2, tasks)
    return Table(key, title, (*heads, *(f"paper: {one}" for one in theirs)), tuple(rows), tuple(notes))


def _spans(tasks: Tasks) -> Table:
    rows = []
    for task, methods in tasks.items():
        for method in methods_of({task: methods}):
            one = methods[method]
            cells = (
                show_mean(one.winner.validation, one.unit),
                _test_score(one),
                _share(one.trained_fraction),
            )
            rows.append((task, f"ours: {name_of(method)}", *cells))
        paper = _paper_task(SQUAD, task, methods)
        for name, score in paper.scores.items() if paper else ():
            rows.append((task, f"paper: {name}", _paper_cell(score), NONE, NONE))
    metrics = {_metric(methods) for methods in tasks.values()}
    shown = "score" if len(metrics) > 1 else "F1" if "squad_f1" in metrics else metrics.pop()
    heads = ("task", "method", f"validation {shown}", f"test {shown}", "trained / task")
    notes = [scores_note("Scores", tasks), *_different(SQUAD, tasks)]
    if len(metrics) > 1:
        notes += [f"{task}: scored by {_metric(methods)}." for task, methods in tasks.items()]
    if any(row[1].startswith("paper: ") for row in rows):
        notes.append("Paper (§3.5): BERT_BASE on the validation set of SQuAD v1.1.")
    return Table("spans", "Span extraction", heads, tuple(rows), tuple(notes))


def _costs(tasks: Tasks) -> Table:
    """What all tasks together cost with each method, over the tasks that have it."""
    rows = []
    for method in methods_of(tasks):
        found = {task: methods[method] for task, methods in tasks.items() if method in methods}
        trained = sum(one.winner.trained for one in found.values())
        total, share = _cost_cells(method, found)
        rows.append((name_of(method), str(len(found)), f"{trained:,}", total, share))
    heads = ("method", "tasks", "trained parameters, all tasks", "total params", "trained / task")
    notes = [
        "Total: parameters to keep for all tasks together, in encoders. Fine-tuning keeps an encoder for "
        "each task; the others keep one encoder, and what was trained for each task."
    ]
    if any(_keeps_no_encoder(method) for methods in tasks.values() for method in methods):
        notes.append("No total without an encoder: the paper gives none either.")
    return Table("costs", "Parameters for all tasks", heads, tuple(rows), tuple(notes))


def winners_table(tasks: Tasks) -> Table:
    """Every task and method: the configuration that won, its scores, and where that is recorded."""
    rows = []
    for one in _each(tasks):
        rows.append(
            (
                one.task,
                one.method,
                one.metric,
                show_mean(one.winner.validation, one.unit),
                str(one.winner.validation.n),
                _test_score(one),
                str(one.winner.test.n if one.winner.test else 0),
                f"{one.winner.trained:,}",
                _share(one.trained_fraction),
                format_params(one.winner.params),
                one.winning_run.source,
            )
        )
    heads = (
        "task",
        "method",
        "metric",
        "validation",
        "seeds",
        "test",
        "seeds",
        "trained parameters",
        "trained",
        "configuration",
        "run",
    )
    notes = (
        "The configuration that won on validation: its mean over seeds, so validation is not the best run's "
        "where there are several; test scores are read for winners alone. scores.csv has the unrounded "
        "numbers.",
        scores_note("Scores", tasks),
    )
    return Table("winners", "Every task and method", heads, tuple(rows), notes)


def _each(tasks: Tasks) -> list[MethodRuns]:
    return [methods[one] for methods in tasks.values() for one in methods_of({"": methods})]


def _shared(tasks: Tasks) -> list[str]:
    """The tasks that every method has, with test scores in points: the only ones whose means compare."""
    every = methods_of(tasks)
    return [
        task
        for task, methods in _in_points(tasks).items()
        if all(method in methods and methods[method].winner.test for method in every)
    ]


def _mean_note(shared: Sequence[str], tasks: Tasks) -> str:
    if len(shared) == len(tasks):
        return f"Mean: over {counted(len(tasks), 'task')}."
    points = "" if len(_in_points(tasks)) == len(tasks) else f" in {POINTS.name}"
    return f"Mean: over the {len(shared)} of {counted(len(tasks), 'task')} that every method has{points}."


def _paper_task(
    table: Mapping[str, PaperTask], task: str, methods: Mapping[str, MethodRuns]
) -> PaperTask | None:
    """The paper's task of this name, if it is scored by the same metric."""
    paper = table.get(task)
    return paper if paper is not None and paper.metric == _metric(methods) else None


def _different(table: Mapping[str, PaperTask], tasks: Tasks) -> list[str]:
    return [
        f"{task}: the paper's metric is {table[task].metric}, ours {_metric(methods)}: not shown."
        for task, methods in tasks.items()
        if task in table and table[task].metric != _metric(methods)
    ]


def _metric(methods: Mapping[str, MethodRuns]) -> str:
    return next(iter(methods.values())).metric


def _cost_cells(method: str, found: Mapping[str, MethodRuns]) -> tuple[str, str]:
    runs = list(found.values())
    total = NONE if _keeps_no_encoder(method) else f"{total_encoders(method, runs):.2f}x"
    return total, _share(trained_share(runs))


def _share(share: float) -> str:
    """1.14%, 39.1%: what is small differs in its hundredths."""
    return f"{share:.2%}" if share < 0.1 else f"{share:.1%}"


def _paper_costs(cost: Cost | None) -> tuple[str, str]:
    return (NONE, NONE) if cost is None else (f"{cost.total:g}x", f"{cost.trained:g}%")


def show_mean(mean: Mean | None, unit: Unit) -> str:
    """A mean in its unit, with the standard error where there are several seeds."""
    if mean is None:
        return NONE
    spread = "" if mean.sem is None else f" ± {unit.show(mean.sem)}"
    return unit.show(mean.value) + spread


def _test_score(one: MethodRuns) -> str:
    return show_mean(one.winner.test, one.unit)


def scores_note(what: str, tasks: Tasks) -> str:
    """What the numbers of a table are."""
    raw = sorted(
        {_metric(methods) for methods in tasks.values()} - {*map(_metric, _in_points(tasks).values())}
    )
    as_it_is = f"; {', '.join(raw)} as it is" if raw else ""
    return f"{what} in {POINTS.name} (± s.e.m. over seeds, where there are several){as_it_is}."


def _in_points(tasks: Tasks) -> dict[str, Mapping[str, MethodRuns]]:
    return {task: m for task, m in tasks.items() if next(iter(m.values())).unit == POINTS}


def _paper_cell(score: Score | None) -> str:
    if score is None:
        return NONE
    return f"{score.mean:.1f}" + ("" if score.sem is None else f" ± {score.sem:.1f}")


def _mean(means: Sequence[Mean | None]) -> str:
    return _average([None if mean is None else 100 * mean.value for mean in means])


def _paper_mean(scores: Sequence[Score | None]) -> str:
    return _average([None if score is None else score.mean for score in scores])


def _average(values: Sequence[float | None]) -> str:
    """The mean in points; none where a task has no number."""
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.1f}" if known and len(known) == len(values) else NONE
