"""A winner that answers with classes: what it takes for what, how good it is at each, how honest it is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.report.job.html import Figure, Html, paragraph, table
from search.report.job.svg import Axis, Plot
from search.tested import KeptAnswers

MOST_SQUARE = 12  # classes of a confusion matrix; of more the commonest confusions are listed
MOST_PAIRS = 20
MOST_ROWS = 60  # classes in the table of scores
BINS = 10  # of confidence
Array = NDArray[np.int64]


def class_parts(tested: KeptAnswers) -> list[Html | Figure]:
    """Confusions, scores of each class, calibration."""
    chosen = tested.predicted.argmax(axis=1)
    matrix = confusion(tested.targets, chosen, len(tested.labels))
    return [_confusions(matrix, tested.labels), _scores(matrix, tested.labels), *_calibration(tested, chosen)]


def confusion(targets: NDArray[Any], chosen: NDArray[Any], classes: int) -> Array:
    """How many rows of each class (down) were taken for each (across)."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (targets, chosen), 1)
    return matrix


def class_scores(matrix: Array) -> list[tuple[float, float, float, int]]:
    """Precision, recall, F1 and support of each class; 0 where there is nothing to divide by."""
    right, support, taken = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    found = []
    for hits, own, said in zip(right.tolist(), support.tolist(), taken.tolist(), strict=True):
        precision, recall = hits / said if said else 0.0, hits / own if own else 0.0
        f1 = 2 * hits / (own + said) if own + said else 0.0
        found.append((precision, recall, f1, own))
    return found


def calibration(confidence: NDArray[Any], right: NDArray[Any]) -> list[tuple[float, float, int]]:
    """Mean confidence, share right and rows of each bin of like wide confidences that has rows."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        (
            float(confidence[bins == place].mean()),
            float(right[bins == place].mean()),
            int(np.sum(bins == place)),
        )
        for place in np.unique(bins)
    ]


def _confusions(matrix: Array, labels: Sequence[str]) -> Html:
    if len(labels) > MOST_SQUARE:
        return _pairs(matrix, labels)
    most = matrix.sum(axis=1, keepdims=True)
    rows: list[list[object]] = []
    for true, counts in enumerate(matrix.tolist()):
        shares = [count / max(int(most[true, 0]), 1) for count in counts]
        cells: list[object] = [labels[true]]
        for chosen, (count, share) in enumerate(zip(counts, shares, strict=True)):
            kind = "right" if chosen == true else "wrong"
            cells.append(Html(f"<td class='cell {kind}' style='--share:{share:.3f}'>{count:,}</td>"))
        rows.append(cells)
    shown = table("Confusion matrix: true classes down, answers across", ("true", *labels), rows)
    return Html(shown + paragraph("Shade: the share of a true class's rows.", "note"))


def _pairs(matrix: Array, labels: Sequence[str]) -> Html:
    """The commonest confusions, where a matrix would be too wide."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    rows = []
    for true, chosen in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if count := int(wrong[true, chosen]):
            rows.append((labels[true], labels[chosen], count, f"{count / matrix[true].sum():.1%}"))
    caption = f"The commonest confusions among {len(labels)} classes"
    if not rows:
        return paragraph("No test row was taken for another class.")
    return table(caption, ("true", "answered", "rows", "of the true class's"), rows, words=(0, 1))


def _scores(matrix: Array, labels: Sequence[str]) -> Html:
    found = class_scores(matrix)
    rows: list[tuple[object, ...]] = [
        (label, *(f"{value:.3f}" for value in scores[:3]), f"{scores[3]:,}")
        for label, scores in zip(labels, found, strict=True)
    ]
    heads = ("class", "precision", "recall", "F1", "support")
    caption = "Precision, recall and F1 of each class on test"
    if len(rows) > MOST_ROWS:
        order = sorted(range(len(rows)), key=lambda place: found[place][2])
        rows = [rows[place] for place in order[:MOST_ROWS]]
        caption += f": the {MOST_ROWS} of {len(labels)} with the lowest F1"
    there = [scores for scores in found if scores[3]]
    means = [float(np.mean([scores[place] for scores in there])) for place in range(3)]
    rows.append((Html("<i>mean over classes</i>"), *(f"{mean:.3f}" for mean in means), f"{matrix.sum():,}"))
    return table(caption, heads, rows)


def _calibration(tested: KeptAnswers, chosen: NDArray[Any]) -> list[Html | Figure]:
    confidence = tested.predicted.max(axis=1)
    right = chosen == tested.targets
    bins = calibration(confidence, right)
    error = sum(abs(mean - share) * count for mean, share, count in bins) / len(right)
    plot = Plot(
        Axis("confidence", 0, 1.02),
        Axis("share right", 0, 1.04),
        "Calibration",
        f"Expected calibration error {error:.3f}.",
        240,
    )
    plot.line([(0, 0), (1, 1)], "grey thin", name="honest")
    points = [(mean, share) for mean, share, _ in bins]
    plot.line(points, "a")
    tips = [f"confidence {mean:.2f}: {share:.1%} of {count} rows right" for mean, share, count in bins]
    most = max(count for _, _, count in bins)
    radii = [2.5 + 4.5 * (count / most) ** 0.5 for _, _, count in bins]
    plot.dots(points, "a", tips=tips, radii=radii, name="rows of like confidence")
    sure = float(confidence.mean())
    words = (
        "sure of itself by too much"
        if sure > right.mean() + 0.02
        else ("less sure than it could be" if sure < right.mean() - 0.02 else "about as sure as it is right")
    )
    caption = (
        f"Mean confidence {sure:.3f}, right {right.mean():.3f}: {words}. Expected calibration error "
        f"{error:.3f}; large discs are many rows."
    )
    return [Figure("calibration", "Calibration", plot.svg(), caption)]
