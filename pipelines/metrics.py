"""Scores of predictions against labels. All are fractions or correlations: higher is better."""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

METRICS = {  # name -> the kind of task it scores; a kind's first one is its default
    "accuracy": "classification",
    "f1": "classification",
    "matthews": "classification",
    "spearman": "regression",
    "pearson": "regression",
    "squad_f1": "span",
    "squad_em": "span",
}


def metrics_for(kind: str) -> tuple[str, ...]:
    """The names of the metrics that fit a kind of task; the first is its default."""
    return tuple(name for name, fits in METRICS.items() if fits == kind)


def score(name: str, predictions: ArrayLike, labels: ArrayLike, *, positive: int | None = None) -> float:
    """Score one split.

    F1 is that of the class ``positive``; without one it is the macro average over the classes that occur
    in the labels or the predictions, for two classes as well. A score that is undefined is 0.0: F1 of a
    class that neither occurs nor is predicted, Matthews' coefficient where all labels or all predictions
    are one class, a correlation with a constant or of a single row.

    Args:
        name: one of `METRICS`, but not of a span's: `pipelines.encoder.windows.score_spans` has those.
        predictions: class indices, or real numbers for a regression. Shape (rows,).
        labels: the same, as they should be. Shape (rows,).
        positive: the class index that F1 is about; other metrics do not look at it.

    Raises:
        ValueError: an unknown name, shapes that differ or hold no row, or a number that is not finite.
    """
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}; known: {', '.join(METRICS)}")
    if METRICS[name] == "span":
        raise ValueError(f"{name} scores texts, not numbers: use pipelines.spans.score_spans")
    predicted, expected = np.asarray(predictions), np.asarray(labels)
    if predicted.ndim != 1 or predicted.shape != expected.shape or not predicted.size:
        raise ValueError(
            f"{name} needs predictions and labels of one shape (rows,), at least one row; "
            f"got {predicted.shape} and {expected.shape}"
        )
    for what, values in (("predictions", predicted), ("labels", expected)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: {np.count_nonzero(~np.isfinite(values))} {what} are not finite")
    if name == "accuracy":
        return float(np.mean(predicted == expected))
    if name == "f1":
        return _f1(predicted, expected, positive)
    if name == "matthews":
        return _matthews(predicted, expected)
    return _correlation(name, predicted, expected)


# scikit-learn and scipy take two seconds to import; who only lists tasks and metrics does not wait for them.


def _f1(predicted: NDArray[np.generic], expected: NDArray[np.generic], positive: int | None) -> float:
    from sklearn.metrics import f1_score

    if positive is None:
        return float(f1_score(expected, predicted, average="macro", zero_division=0.0))
    return float(f1_score(expected == positive, predicted == positive, zero_division=0.0))


def _matthews(predicted: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    from sklearn.metrics import matthews_corrcoef

    if len(np.unique(predicted)) == 1 or len(np.unique(expected)) == 1:
        return 0.0  # scikit-learn says so too, but warns
    return float(matthews_corrcoef(expected, predicted))


def _correlation(name: str, predicted: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """In double precision; numbers that differ too little, or too much, to correlate count as constant."""
    from scipy.stats import pearsonr, spearmanr

    left, right = predicted.astype(np.float64), expected.astype(np.float64)
    if np.all(left == left[0]) or np.all(right == right[0]):
        return 0.0
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # scipy's, for nearly constant input
        value = float((spearmanr if name == "spearman" else pearsonr)(left, right)[0])
    return value if np.isfinite(value) else 0.0
