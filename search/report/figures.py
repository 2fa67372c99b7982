"""Drawing a report's figures; a method has its colour and its marker in the table of methods."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.method import METHODS
from search.report.series import Curve, FigureData, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#555555"
COLUMNS = 3
DPI = 160
# The same numbers give the same bytes: no date, and names in the SVG that do not change.
SVG_SALT = "adaptune"


def draw_figure(data: FigureData) -> "Figure":
    """A figure with its panels in rows of up to three, one legend for all."""
    from matplotlib.figure import Figure  # half a second, which other commands do without

    columns = min(COLUMNS, len(data.panels))
    rows = math.ceil(len(data.panels) / columns)
    width, height = (6.8, 4.6) if columns == 1 else (4.3 * columns, 3.7 * rows + 0.5)
    figure = Figure(figsize=(width, height), layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    names = _names(data)
    for axes, panel in zip(all_axes, data.panels, strict=False):
        _draw_panel(axes, panel, data, names)
    for axes in all_axes[len(data.panels) :]:
        axes.set_axis_off()
    _add_legend(figure, all_axes[: len(data.panels)], columns={1: 1, 2: 2}.get(columns, 4))
    return figure


def figure_files(data: FigureData) -> dict[str, bytes]:
    """The figure as PNG and SVG, by file name."""
    from matplotlib import rc_context

    files = {}
    with rc_context({"svg.hashsalt": SVG_SALT}):
        figure = draw_figure(data)
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
            files[f"{data.key}.{kind}"] = buffer.getvalue()
    return files


def _names(data: FigureData) -> dict[str, str]:
    """What each method is called in the legend, with its n over all panels."""
    counts: dict[str, list[int]] = {}
    for curve in (curve for panel in data.panels for curve in panel.curves):
        counts.setdefault(curve.name, []).extend(mark.n for mark in curve.marks)
    unit = "task" if data.banded else "seed"
    names = {}
    for name, found in counts.items():
        low, high = min(found), max(found)
        shown = f"{low}" if low == high else f"{low} to {high}"
        names[name] = f"{name} (n = {shown} {unit}{'' if high == 1 else 's'})"
    return names


def _draw_panel(axes: "Axes", panel: Panel, data: FigureData, names: Mapping[str, str]) -> None:
    if panel.level is not None:
        axes.axhline(panel.level, color=GREY, linewidth=1, linestyle="--", label=panel.level_name, zorder=1)
    for curve in panel.curves:
        (_draw_band if data.banded else _draw_errors)(axes, curve, names[curve.name])
    axes.set_xscale("log")
    axes.set_title(panel.title, fontsize=11)
    axes.set_xlabel(data.x_label)
    axes.set_ylabel(panel.y_label)
    axes.grid(alpha=0.3)
    axes.margins(x=0.08, y=0.1)
    _tick_decades(axes, panel)


def _draw_band(axes: "Axes", curve: Curve, name: str) -> None:
    colour, marker = METHODS[curve.method].colour, METHODS[curve.method].marker
    x, y, low, high = (_column(curve, column) for column in ("x", "y", "low", "high"))
    if len(x) == 1:  # no line to shade
        axes.errorbar(x, y, yerr=_errors(curve), fmt=marker, color=colour, capsize=4, label=name, zorder=3)
        return
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    for edge in (low, high):
        axes.plot(x, edge, color=colour, linewidth=0.8, alpha=0.7)
    axes.plot(x, y, color=colour, marker=marker, markersize=5, linewidth=2, label=name, zorder=3)


def _draw_errors(axes: "Axes", curve: Curve, name: str) -> None:
    colour, marker = METHODS[curve.method].colour, METHODS[curve.method].marker
    axes.errorbar(
        _column(curve, "x"),
        _column(curve, "y"),
        yerr=_errors(curve),
        color=colour,
        marker=marker,
        markersize=5,
        capsize=3,
        linewidth=1.6,
        label=name,
        zorder=3,
    )


def _errors(curve: Curve) -> list[list[float]]:
    """Lengths of the error bars below and above; 0 where there is one seed."""
    below = [0.0 if mark.low is None else mark.y - mark.low for mark in curve.marks]
    above = [0.0 if mark.high is None else mark.high - mark.y for mark in curve.marks]
    return [below, above]


def _column(curve: Curve, name: str) -> list[float]:
    return [getattr(mark, name) for mark in curve.marks]


def _tick_decades(axes: "Axes", panel: Panel) -> None:
    """Numbers at 1, 2 and 5 where the axis spans little more than a decade: it might bear none otherwise."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    values = [mark.x for curve in panel.curves for mark in curve.marks]
    if max(values) / min(values) < 50:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    """2e-05 -> 2e-5; 200000 -> 200k; 5000000 -> 5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def _add_legend(figure: "Figure", all_axes: Sequence["Axes"], *, columns: int) -> None:
    """One entry for each name in any of the panels."""
    entries: dict[str, Any] = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=min(columns, len(entries)),
        frameon=False,
    )
