"""The paper's analyses of many trials: score against one parameter, the others at their best."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from search.commands import storage_options
from search.errors import UserError
from search.report.curves import (
    INITS,
    RATES,
    Swept,
    default_of,
    swept_figure,
)
from search.report.figures import figure_files
from search.report.page import Content, markdown_page
from search.report.paper import ADAPTERS, OURS, SIZES
from search.report.report import collect_runs, csv_bytes, find_jobs
from search.report.series import FigureData, Tasks, figure_rows
from search.report.statistics import POINTS, counted, frontier, levels_of
from search.report.tables import NONE, Table, scores_note, show_mean
from search.results import open_record
from search.storage import Storage


def read_tasks(names: Sequence[str], storage: Storage) -> Tasks:
    """The runs of some jobs by task and method; raises UserError as `read_report` does."""
    with open_record(storage) as record:
        return collect_runs(find_jobs(record, names, storage), storage_options(storage))


def init_figure(tasks: Tasks) -> FigureData:
    """Figure 6, right: score against the deviation of the adapters' first weights. Raises UserError."""
    return _figure(tasks, INITS, "init", "Figure 6, right: score and the adapters' first weights")


def learning_rate_figure(tasks: Tasks) -> FigureData:
    """Figure 7: the best score at each learning rate. Raises UserError for less than two of them."""
    return _figure(tasks, RATES, "learning_rate", "Figure 7: the best score at each learning rate")


def _figure(tasks: Tasks, swept: Swept, key: str, title: str) -> FigureData:
    made = swept_figure(tasks, swept, key=key, title=title)
    if isinstance(made, FigureData):
        return made
    raise UserError(f"nothing to draw: {made.reason}. Needed: {made.needed}.")


def size_table(tasks: Tasks) -> Table:
    """§3.6: the best validation score at each adapter size, and its mean over the classification tasks.

    Raises:
        UserError: no task has adapters of two sizes.
    """
    adapter = OURS[ADAPTERS]
    default = default_of(adapter, "adapter_size")
    found = {task: methods[adapter] for task, methods in tasks.items() if adapter in methods}
    levels = levels_of(
        [
            float(one.params.get("adapter_size", default))
            for runs in found.values()
            for one in runs.configurations
        ],
        base=2,
    )
    scores = {
        task: {
            point.level: point.best.validation
            for point in frontier(
                runs.configurations, lambda one: levels[one.params.get("adapter_size", default)]
            )
        }
        for task, runs in found.items()
    }
    if not any(len(by_size) > 1 for by_size in scores.values()):
        raise UserError(
            "nothing to compare: no task has adapters of two sizes. Needed: two or more values of "
            "adapter_size in the space."
        )
    classified = [task for task, runs in found.items() if runs.rules.classes]
    averaged = [task for task in classified if found[task].unit == POINTS]
    rows = []
    for size in sorted({size for by_size in scores.values() for size in by_size}):
        known = [scores[task][size].value for task in averaged if size in scores[task]]
        complete = known and len(known) == len(averaged)
        mean = POINTS.show(float(np.mean(known))) if complete else NONE
        paper = f"{SIZES[int(size)]}" if size in SIZES else NONE
        cells = (show_mean(scores[task].get(size), runs.unit) for task, runs in found.items())
        rows.append((f"{size:g}", mean, paper, *cells))
    tasks_of_mean = counted(len(averaged), "classification task")
    notes = (
        scores_note("Validation scores", {task: {adapter: runs} for task, runs in found.items()}),
        "At each size the best of the other settings counts. Mean: over "
        f"{tasks_of_mean}{'' if len(averaged) == len(classified) else f' in {POINTS.name}'}, where all of "
        "them have the size.",
        "Paper (§3.6): mean over the 8 classification tasks of GLUE, BERT_LARGE.",
    )
    heads = (
        "adapter size",
        "mean",
        "paper: mean",
        *(f"{task} ({runs.metric})" for task, runs in found.items()),
    )
    return Table("size", "Score at each adapter size", heads, tuple(rows), notes)


def drawn_files(figure: FigureData) -> dict[str, bytes]:
    """A figure as PNG, SVG and csv, by file name."""
    return {**figure_files(figure), f"{figure.key}.csv": csv_bytes(figure_rows(figure))}


def table_files(table: Table) -> dict[str, bytes]:
    """A table as csv and Markdown, by file name."""
    page = markdown_page(Content(table.title, "", (table,), (), (), ()))
    return {f"{table.key}.csv": csv_bytes([table.heads, *table.rows]), f"{table.key}.md": page.encode()}


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files into a folder, in the place of those of the same names. Raises UserError if it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error}). Choose another --out.") from error
