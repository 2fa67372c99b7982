"""The winner on the test set; what is shown depends on what it answers with: a table of forms."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.report.job.classes import class_parts
from search.report.job.html import Figure, Html, Section, bullets, paragraph, table
from search.report.job.svg import Axis, Plot
from search.report.job.view import StudyView
from search.tested import KeptAnswers

LENGTH_BINS = 5
SMALL = 40  # rows, of which bins are too few
Parts = list[Html | Figure]


def on_test(view: StudyView) -> Section:
    """Its outputs looked at from all sides."""
    title = "The winner on the test set"
    if view.winner is None:
        return Section(title, [paragraph("There is no winner yet: the test set has not been read.")])
    scores = ", ".join(f"{name} {value:.4f}" for name, value in view.winner.test.items())
    parts: Parts = [paragraph(f"Read once, after validation had chosen: {scores}.")]
    for name, own in view.winner.also.items():
        parts.append(
            paragraph(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in own.items()) + ".")
        )
    tested = view.tested
    if tested is None:
        parts.append(
            paragraph(
                "What it answered row by row was not kept: the search ended with an earlier version of "
                "adaptune, its task is of a kind of which that is not known, or the files were deleted. A "
                "search of the same job under a new name keeps it."
            )
        )
        return Section(title, parts)
    parts += FORMS[tested.form](tested)
    parts.append(_mistakes(tested))
    return Section(title, parts)


def _numbers(tested: KeptAnswers) -> Parts:
    """Predicted against true, and how far off by length."""
    off = tested.predicted - tested.targets
    both = [*tested.predicted.tolist(), *tested.targets.tolist()]
    x, y = Axis.over("true", both), Axis.over("predicted", both)
    plot = Plot(x, y, "Predicted against true", f"{len(off)} test rows.", 300)
    ends = [(x.low, x.low), (x.high, x.high)]
    plot.line(ends, "grey thin", name="right")
    plot.dots(_some(tested.targets, tested.predicted), "a", radii=[2.0] * MOST_DOTS, name="a test row")
    parts: Parts = [Figure("predicted", "Predicted against true", plot.svg(), f"{_shown(len(off))}")]
    if tested.lengths.size:
        residuals = Plot(
            Axis.over("characters of the text", tested.lengths.tolist(), log=True),
            Axis.over("predicted minus true", off.tolist()),
            "Residuals by length",
            "",
            300,
        )
        residuals.line([(residuals.x.low, 0.0), (residuals.x.high, 0.0)], "grey thin")
        residuals.dots(_some(tested.lengths, off), "a", radii=[2.0] * MOST_DOTS)
        parts.append(Figure("residuals", "Residuals by length", residuals.svg(), ""))
    size = np.abs(off)
    parts.append(
        bullets(
            [
                f"Mean error {size.mean():.4g}, median {np.median(size):.4g}, largest {size.max():.4g}",
                f"Bias (mean of predicted minus true) {off.mean():+.4g}",
            ]
        )
    )
    return [*parts, *by_length(tested.lengths, size, "mean error")]


MOST_DOTS = 1500  # of a scatter


def _some(x: NDArray[Any], y: NDArray[Any]) -> list[tuple[float, float]]:
    step = -(-len(x) // MOST_DOTS)
    return [(float(a), float(b)) for a, b in zip(x[::step].tolist(), y[::step].tolist(), strict=True)]


def _shown(rows: int) -> str:
    step = -(-rows // MOST_DOTS)
    return f"Every test row, {rows:,}." if step == 1 else f"Every {step}th of {rows:,} test rows."


def _answers(tested: KeptAnswers) -> Parts:
    """How many answers are right altogether or in part, and how good by length."""
    scores = tested.predicted
    full, none = float(np.mean(scores >= 1)), float(np.mean(scores <= 0))
    rows = [
        (name, f"{share:.1%}", f"{round(share * len(scores)):,}")
        for name, share in (("exactly right", full), ("right in part", 1 - full - none), ("wrong", none))
    ]
    parts: Parts = [table("Answers by their score", ("", "share", "questions"), rows)]
    return parts + by_length(tested.lengths, scores, "mean score")


def by_length(lengths: NDArray[Any], scores: NDArray[Any], label: str) -> Parts:
    """Mean of a score in bins of like many rows, from the short texts to the long ones."""
    if len(lengths) < SMALL or len(lengths) != len(scores):
        return []
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, LENGTH_BINS + 1)).astype(int))
    if len(edges) < 3:
        return []
    bins = np.clip(np.searchsorted(edges, lengths, side="right") - 1, 0, len(edges) - 2)
    names, means, tips = [], [], []
    for place in range(len(edges) - 1):
        own = scores[bins == place].astype(float)
        high = edges[place + 1] if place == len(edges) - 2 else max(edges[place + 1] - 1, edges[place])
        names.append(f"{edges[place]}-{high}")
        means.append(float(own.mean()) if len(own) else 0.0)
        tips.append(f"{len(own)} rows of {names[-1]} characters: {label} {means[-1]:.4f}")
    axis = Axis.of_names("characters of the text", names)
    plot = Plot(axis, Axis(label, 0, max(*means, 1e-9) * 1.15), f"{label} by length", "; ".join(tips))
    plot.bars(means, "a", tips=tips, texts=[f"{mean:.3g}" for mean in means])
    counts = np.bincount(bins)
    caption = f"Bins of {counts.min()} to {counts.max()} test rows."
    return [Figure("by_length", f"{label.capitalize()} by length", plot.svg(), caption)]


def _classes(tested: KeptAnswers) -> Parts:
    parts = class_parts(tested)
    right = (tested.predicted.argmax(axis=1) == tested.targets).astype(float)
    return [*parts, *by_length(tested.lengths, right, "share right")]


FORMS: dict[str, Callable[[KeptAnswers], Parts]] = {
    "classes": _classes,
    "numbers": _numbers,
    "answers": _answers,
}
# What the mistakes' table is called, and its column of scores.
_WORDS = {
    "classes": ("The most confident mistakes", "confidence", "{:.3f}"),
    "numbers": ("The worst predictions", "off by", "{:+.4g}"),
    "answers": ("The worst answers", "score", "{:.2f}"),
}


def _mistakes(tested: KeptAnswers) -> Html:
    if not tested.mistakes:
        return paragraph("No mistakes to show: there are none, or their texts were not kept.")
    caption, head, form = _WORDS[tested.form]
    rows = [
        (one.row + 1, one.text, one.expected, one.answered, form.format(one.score)) for one in tested.mistakes
    ]
    heads = ("test row", "text", "true", "answered", head)
    return table(f"{caption}: {len(rows)}", heads, rows, words=(1, 2, 3))
