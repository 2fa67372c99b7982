"""Which layers' adapters a bundle needs: its task's rows read, and the heat map of Figure 6."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.analyses import Ablation, ablate, adapted_layers
from pipelines.bundle import AdapterBundle
from pipelines.errors import InputError
from pipelines.metrics import METRICS, metrics_for
from pipelines.tasks.labels import class_of
from pipelines.tasks.readers import READERS, any_of, read_columns
from pipelines.texts import has_surrogate
from search.errors import UserError
from search.report.figures import DPI, SVG_SALT
from search.report.report import csv_bytes
from search.report.statistics import POINTS, Unit, unit_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ANNOTATED = 16  # layers; the numbers of more would overlap


@dataclass(frozen=True)
class LayerAnalysis:
    """An ablation with what its figure says.

    Attributes:
        majority: the share of the largest class among the rows; None for another metric than accuracy.
    """

    task: str
    metric: str
    ablation: Ablation
    majority: float | None

    @property
    def unit(self) -> Unit:
        """How its scores are shown."""
        return unit_of(self.metric)

    @property
    def sign(self) -> float:
        """-1 where less is better."""
        return METRICS[self.metric].signed(1.0)

    def drop(self, first: int, last: int) -> float:
        """What the layers' adapters are worth: the score without them minus the full one, in its unit."""
        return self.unit.factor * (self.ablation.scores[first, last] - self.ablation.full)


def analyse_layers(
    folder: Path,
    *,
    source: Path | None = None,
    data_dir: Path | None = None,
    label: str | None = None,
    limit: int | None = None,
    backbone: str | None = None,
) -> LayerAnalysis:
    """Ablate a bundle's adapters on labelled rows.

    Args:
        source: a table with the task's text columns and its label.
        data_dir: instead of it, a folder with <task>/validation.parquet (or csv, tsv, jsonl).
        label: the label's column; None: as the bundle has it.
        limit: the first so many rows.

    Raises:
        UserError, InputError, BundleError: whatever cannot be used.
    """
    bundle = AdapterBundle.load(folder, backbone=backbone)
    adapted_layers(bundle)  # what cannot be ablated is refused before anything is read
    config, facts = bundle.config, bundle.metrics
    if (source is None) == (data_dir is None):
        raise UserError("give the rows to score by --input FILE or by --data-dir DIR, one of the two.")
    path = source or find_validation(data_dir or Path(), config.task)
    rows, targets = read_labelled(bundle, path, label or facts.get("label") or "label", limit)
    fitting = metrics_for(config.kind)
    metric = facts.get("metric") or (fitting or ("",))[0]
    if metric not in fitting:
        fix = "Import the package that registers it, or update adaptune."
        raise InputError("BUNDLE", bundle.name, f"its metric {metric!r} scores no {config.kind} here", fix)
    positive = config.labels.index(facts["positive"]) if facts.get("positive") in config.labels else None
    found = ablate(bundle, rows, partial(_score, bundle, targets, metric, positive))
    majority = None
    if metric == "accuracy":
        majority = float(np.unique(targets, return_counts=True)[1].max() / len(targets))
    return LayerAnalysis(config.task, metric, found, majority)


def find_validation(data_dir: Path, task: str) -> Path:
    """The task's validation rows under a data_dir. Raises UserError if there are none."""
    for ending in READERS:
        if (path := data_dir / task / f"validation{ending}").is_file():
            return path
    raise UserError(f"--data-dir {data_dir}: no {any_of(f'{task}/validation')}. Use --input.")


def read_labelled(
    bundle: AdapterBundle, path: Path, label: str, limit: int | None
) -> tuple[list[tuple[str, ...]], NDArray[Any]]:
    """Rows of texts, and their targets as the metrics take them.

    Raises:
        UserError: a cell is empty or has half a character, or a label is not one of the bundle's.
        InputError: the file, or a column of it, cannot be read.
    """
    config = bundle.config
    wanted = dict.fromkeys(config.text_columns, "--input") | {label: "--label"}
    *texts, labels = (column[:limit] for column in read_columns(str(path), wanted, "--input"))
    rows: list[tuple[str, ...]] = []
    targets: list[float] = []
    for number, (*cells, written) in enumerate(zip(*texts, labels, strict=True), start=1):
        if not written or any(not cell or cell.isspace() for cell in cells):
            raise UserError(f"{path}: row {number} has no text or no label. Fill it in or remove it.")
        if any(map(has_surrogate, (written, *cells))):
            raise UserError(
                f"{path}: row {number} has half a character (a lone surrogate). Correct it or remove it: it "
                "was cut within a character."
            )
        target = _target(written, config.labels)
        if target is None:
            known = ", ".join(config.labels[:10]) if config.labels else "finite numbers"
            raise UserError(
                f"{path}: the label {written!r} of row {number} is none that the bundle knows: {known}. "
                "Correct it, or name another column by --label."
            )
        rows.append(tuple(str(cell) for cell in cells))
        targets.append(target)
    if not rows:
        raise UserError(f"{path}: it has no rows. Give a file with at least one.")
    return rows, np.array(targets, dtype=np.int64 if config.labels else np.float64)


def _target(written: str, labels: Sequence[str]) -> float | None:
    if labels:
        return class_of(written, labels)
    try:
        value = float(written)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _score(
    bundle: AdapterBundle,
    targets: NDArray[Any],
    metric: str,
    positive: int | None,
    outputs: NDArray[np.float64],
) -> float:
    config = bundle.config
    if not np.isfinite(outputs).all():
        raise InputError("BUNDLE", bundle.name, "its outputs are not finite", "Export it again.")
    scores = config.rules.score(outputs, targets, metrics=[metric], positive=positive, scale=config.scale)
    return scores[metric]


def ablation_files(analysis: LayerAnalysis) -> dict[str, bytes]:
    """The heat map as PNG and SVG, and its numbers as csv, by file name."""
    from matplotlib import rc_context

    difference = f"{analysis.unit.column}_minus_full"
    rows: list[list[Any]] = [["first_layer", "last_layer", analysis.metric, difference]]
    rows += [
        [first, last, value, analysis.drop(first, last)]
        for (first, last), value in analysis.ablation.scores.items()
    ]
    files = {"ablation.csv": csv_bytes(rows)}
    with rc_context({"svg.hashsalt": SVG_SALT}):
        figure = draw_ablation(analysis)
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
            files[f"ablation.{kind}"] = buffer.getvalue()
    return files


def draw_ablation(analysis: LayerAnalysis) -> "Figure":
    """The heat map: down the first layer without adapters, across the last one."""
    from matplotlib.figure import Figure

    layers, unit, sign = analysis.ablation.layers, analysis.unit, analysis.sign
    drops = np.full((len(layers), len(layers)), np.nan)
    for first, last in analysis.ablation.scores:
        drops[layers.index(first), layers.index(last)] = analysis.drop(first, last)
    size = min(12.0, max(4.8, 0.55 * len(layers) + 1.6))
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    most = max(float(np.nanmax(-sign * drops)), 0.01 * unit.factor)  # that is lost; the darkest
    low, high, colours = (-most, 0.0, "cividis") if sign > 0 else (0.0, most, "cividis_r")
    image = axes.imshow(drops, cmap=colours, vmin=low, vmax=high)
    for (row, column), drop in np.ndenumerate(drops) if len(layers) <= MOST_ANNOTATED else ():
        if not np.isnan(drop):
            dark = -sign * drop > most / 2
            text = f"{round(drop, 1) + 0.0:.1f}" if unit == POINTS else f"{round(drop, 2) + 0.0:.2f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color="w" if dark else "k")
    ticks = range(0, len(layers), 1 if len(layers) <= MOST_ANNOTATED else 4)
    names = [str(layers[tick]) for tick in ticks]
    axes.set_xticks(list(ticks), names)
    axes.set_yticks(list(ticks), names)
    axes.set_xlabel("last layer without adapters")
    axes.set_ylabel("first layer without adapters")
    full = unit.show(analysis.ablation.full)
    axes.set_title(
        f"{analysis.task}: adapters removed, not retrained\n"
        f"{analysis.metric} with all adapters {full}, n = {analysis.ablation.examples:,}",
        fontsize=10,
    )
    label = f"{analysis.metric} minus the full model's{' (points)' if unit == POINTS else ''}"
    figure.colorbar(image, ax=axes, shrink=0.8, label=label)
    return figure


def describe_layers(analysis: LayerAnalysis) -> list[str]:
    """What the heat map says, in lines."""
    ablation, layers, unit = analysis.ablation, analysis.ablation.layers, analysis.unit
    worst = min(layers, key=lambda layer: analysis.sign * analysis.drop(layer, layer))
    everything = (layers[0], layers[-1])

    def drop(first: int, last: int) -> str:
        points = " points" if unit == POINTS else ""
        return f"{analysis.drop(first, last):+.{unit.decimals}f}{points}"

    lines = [
        f"{analysis.task}: {analysis.metric} {unit.show(ablation.full)} with all adapters "
        f"({ablation.examples:,} rows, layers {layers[0]} to {layers[-1]})",
        f"without one layer's: {drop(worst, worst)} at most (layer {worst})",
        f"without any: {unit.show(ablation.scores[everything])} ({drop(*everything)})",
    ]
    if analysis.majority is not None:
        lines.append(f"the most frequent label alone: {unit.show(analysis.majority)}")
    return lines
