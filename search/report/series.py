"""What a figure is before it is drawn: panels of curves of marks, as numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from search.report.statistics import POINTS, MethodRuns

Tasks = Mapping[str, Mapping[str, MethodRuns]]  # task -> method -> its runs, both in the job's order


class Mark(NamedTuple):
    """A point of a curve, with what is drawn around it; ``n`` counts tasks or seeds."""

    x: float
    y: float
    low: float | None
    high: float | None
    n: int
    label: str  # adapter size, layers or learning rate


class Curve(NamedTuple):
    method: str
    name: str
    marks: tuple[Mark, ...]


class Panel(NamedTuple):
    """One pair of axes. ``level`` is drawn across, under its name: what the curves compare with.

    ``unit`` is what csv files call its numbers.
    """

    title: str
    y_label: str
    curves: tuple[Curve, ...]
    level: float | None = None
    level_name: str = ""
    unit: str = POINTS.column


@dataclass(frozen=True)
class FigureData:
    """A figure as numbers. ``banded``: low and high are percentiles over tasks, else errors over seeds."""

    key: str  # figure_1
    title: str
    x_label: str
    panels: tuple[Panel, ...]
    banded: bool
    caption: str


class Missing(NamedTuple):
    """A figure that the jobs at hand have no data for, and what would be needed."""

    title: str
    reason: str
    needed: str


def figure_rows(figure: FigureData) -> list[list[str | float | int]]:
    """The numbers of a figure, with a head: one row for each point. Panels in several units name theirs."""
    low, high = ("percentile_20", "percentile_80") if figure.banded else ("minus_1_sem", "plus_1_sem")
    n = "tasks" if figure.banded else "seeds"
    units = {panel.unit for panel in figure.panels}
    score = units.pop() if len(units) == 1 else "score"
    rows: list[list[str | float | int]] = [
        ["panel", "method", "level", figure.x_label.replace(" ", "_"), score, low, high, n]
    ]
    if units:
        rows[0].append("unit")
    for panel in figure.panels:
        for curve in panel.curves:
            for mark in curve.marks:
                ends = ["" if end is None else end for end in (mark.low, mark.high)]
                unit = [panel.unit] if units else []
                rows.append([panel.title, curve.method, mark.label, mark.x, mark.y, *ends, mark.n, *unit])
    return rows
