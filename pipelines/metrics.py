"""The table of metrics. A metric is one entry at the end of this file; nothing else knows its name."""

import math
import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of predictions against targets.

    Attributes:
        kinds: the kinds of tasks that it scores; of the metrics of a kind, the first in the table is its
            default.
        of: the view of a kind's outputs that it reads: "labels" (rows,) class indices, "probabilities" (rows,
            classes), "numbers" (rows,), "answers" a text a row; or what another kind offers (`Kind.view`).
        function: of targets and predictions, in this order, and of what it ``takes`` by name.
        better: which way is better. A search maximises the `signed` value; reports show the raw one.
        range: the lowest and the highest value there is.
        takes: "positive", the index of the class that it is about, or None where the job names none.
    """

    name: str
    kinds: tuple[str, ...]
    of: str
    function: Callable[..., float]
    better: Literal["higher", "lower"] = "higher"
    range: tuple[float, float] = (0.0, 1.0)
    takes: tuple[Literal["positive"], ...] = ()

    def score(self, predictions: Any, targets: Any, *, positive: int | None = None) -> float:
        """The raw value. Raises ValueError as the function does."""
        options = {"positive": positive} if "positive" in self.takes else {}
        return float(self.function(targets, predictions, **options))

    def signed(self, value: float) -> float:
        """The value such that higher is better; the same again gives the raw one back."""
        return -value if self.better == "lower" else value


METRICS: dict[str, Metric] = {}


def register_metric(metric: Metric) -> Metric:
    """Make a metric known by its name.

    Raises:
        ValueError: the name is taken, or nothing can be scored with it.
    """
    if metric.name in METRICS:
        raise ValueError(f"metric {metric.name!r} is registered twice; rename one of them")
    if not callable(metric.function):
        raise ValueError(f"metric {metric.name!r} has no function; give it one")
    if not metric.kinds or isinstance(metric.kinds, str):
        raise ValueError(f"metric {metric.name!r} scores no kind of task; name them as a tuple")
    METRICS[metric.name] = metric
    return metric


def metrics_for(kind: str) -> tuple[str, ...]:
    """The names of the metrics that fit a kind of task; the first is its default."""
    return tuple(name for name, metric in METRICS.items() if kind in metric.kinds)


def score(name: str, predictions: ArrayLike, targets: ArrayLike, *, positive: int | None = None) -> float:
    """Score one split; a raw value.

    F1 is that of the class ``positive``; without one it is the macro average over the classes that occur
    in the targets or the predictions, for two classes as well. A score that is undefined is 0.0: F1 of a
    class that neither occurs nor is predicted, Matthews' coefficient where all targets or all predictions
    are one class, a correlation with a constant or of a single row.

    Args:
        name: one of `METRICS`.
        predictions: as the metric's `of` says, one for each row.
        targets: class indices, real numbers, or for spans the reference answers of each row.
        positive: the class index that F1 is about; other metrics do not look at it.

    Raises:
        ValueError: an unknown name, shapes that differ or hold no row, or a number that is not finite.
    """
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}; known: {', '.join(METRICS)}")
    return METRICS[name].score(predictions, targets, positive=positive)


def _checked(name: str, targets: ArrayLike, predictions: ArrayLike) -> tuple[Array, Array]:
    expected, predicted = np.asarray(targets), np.asarray(predictions)
    if predicted.ndim != 1 or predicted.shape != expected.shape or not predicted.size:
        raise ValueError(
            f"{name} needs predictions and labels of one shape (rows,), at least one row; "
            f"got {predicted.shape} and {expected.shape}"
        )
    _refuse_infinite(name, predictions=predicted, labels=expected)
    return expected, predicted


def _refuse_infinite(name: str, **arrays: Array) -> None:
    for what, values in arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: {np.count_nonzero(~np.isfinite(values))} {what} are not finite")


# scipy takes two seconds to import; who only lists tasks and metrics does not wait for it.


def _accuracy(targets: ArrayLike, predictions: ArrayLike) -> float:
    expected, predicted = _checked("accuracy", targets, predictions)
    return float(np.mean(predicted == expected))


def _confusion(expected: Array, predicted: Array) -> NDArray[np.int64]:
    """How often each class (a row) was taken for each (a column), of the classes that occur in either.

    Scores are drawn thousands of times for an interval; scikit-learn takes milliseconds for each.
    """
    classes, codes = np.unique(np.concatenate([expected, predicted]), return_inverse=True)
    places = codes[: len(expected)] * len(classes) + codes[len(expected) :]
    return np.bincount(places, minlength=len(classes) ** 2).reshape(len(classes), len(classes))


def _f1(targets: ArrayLike, predictions: ArrayLike, *, positive: int | None) -> float:
    expected, predicted = _checked("f1", targets, predictions)
    if positive is not None:
        occurs, said = expected == positive, predicted == positive
        return float(2 * np.sum(occurs & said) / max(1, np.sum(occurs) + np.sum(said)))
    counts = _confusion(expected, predicted)
    return float(np.mean(2 * counts.diagonal() / (counts.sum(0) + counts.sum(1))))


def _matthews(targets: ArrayLike, predictions: ArrayLike) -> float:
    """For several classes the R_K of Gorodkin 2004, "Comparing two K-category assignments"."""
    expected, predicted = _checked("matthews", targets, predictions)
    counts = _confusion(expected, predicted).astype(np.float64)
    occurs, said, rows = counts.sum(1), counts.sum(0), counts.sum()
    spread = (rows**2 - occurs @ occurs) * (rows**2 - said @ said)
    return float((counts.trace() * rows - occurs @ said) / np.sqrt(spread)) if spread else 0.0


def _log_loss(targets: ArrayLike, predictions: ArrayLike) -> float:
    """The mean of -log p of the right class, in nats; a row counts 36 at most, so that it is finite."""
    expected, probabilities = np.asarray(targets), np.asarray(predictions)
    if probabilities.ndim != 2 or expected.shape != probabilities.shape[:1] or not expected.size:
        raise ValueError(
            f"log_loss needs predictions (rows, classes) and labels (rows,), at least one row; "
            f"got {probabilities.shape} and {expected.shape}"
        )
    _refuse_infinite("log_loss", predictions=probabilities, labels=expected)
    right = probabilities[np.arange(len(expected)), expected].astype(np.float64)
    return float(np.mean(-np.log(np.maximum(right, np.finfo(np.float64).eps))))


def _spearman(targets: ArrayLike, predictions: ArrayLike) -> float:
    from scipy.stats import spearmanr

    return _correlation(*_checked("spearman", targets, predictions), spearmanr)


def _pearson(targets: ArrayLike, predictions: ArrayLike) -> float:
    from scipy.stats import pearsonr

    return _correlation(*_checked("pearson", targets, predictions), pearsonr)


def _correlation(expected: Array, predicted: Array, function: Callable[[Array, Array], Any]) -> float:
    """In double precision; numbers that differ too little, or too much, to correlate count as constant."""
    left, right = predicted.astype(np.float64), expected.astype(np.float64)
    if np.all(left == left[0]) or np.all(right == right[0]):
        return 0.0
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # scipy's, for nearly constant input
        value = float(function(left, right)[0])
    return value if np.isfinite(value) else 0.0


# As the official script for SQuAD v1.1 scores (evaluate-v1.1.py; Rajpurkar et al. 2016, §6.1): each
# prediction counts with its best reference; texts are compared without case, punctuation, articles and extra
# white space.


def _squad_f1(targets: Sequence[Sequence[str]], predictions: Sequence[str]) -> float:
    pairs = _answer_pairs("squad_f1", targets, predictions)
    return float(np.mean([max(_token_f1(left, right) for left, right in several) for several in pairs]))


def _squad_em(targets: Sequence[Sequence[str]], predictions: Sequence[str]) -> float:
    pairs = _answer_pairs("squad_em", targets, predictions)
    return float(np.mean([any(left == right for left, right in several) for several in pairs]))


def _answer_pairs(
    name: str, references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> list[list[tuple[str, str]]]:
    if len(predictions) != len(references) or not predictions or not all(references):
        raise ValueError(
            f"{name} needs references for each prediction, and at least one; "
            f"got {len(predictions)} predictions and {len(references)} lists of references"
        )
    return [
        [(_normalise(prediction), _normalise(reference)) for reference in several]
        for prediction, several in zip(predictions, references, strict=True)
    ]


def _normalise(text: str) -> str:
    lowered = "".join(char for char in text.lower() if char not in _PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", lowered).split())


_PUNCTUATION = frozenset(string.punctuation)


def _token_f1(prediction: str, reference: str) -> float:
    left, right = prediction.split(), reference.split()
    common = sum((Counter(left) & Counter(right)).values())
    if not common:
        return 0.0
    precision, recall = common / len(left), common / len(right)
    return 2 * precision * recall / (precision + recall)


_CLASSES, _NUMBERS, _SPANS = ("classification",), ("regression",), ("span",)
for _metric in (
    Metric(name="accuracy", kinds=_CLASSES, of="labels", function=_accuracy),
    Metric(name="f1", kinds=_CLASSES, of="labels", function=_f1, takes=("positive",)),
    Metric(name="matthews", kinds=_CLASSES, of="labels", function=_matthews, range=(-1.0, 1.0)),
    Metric(
        name="log_loss",
        kinds=_CLASSES,
        of="probabilities",
        function=_log_loss,
        better="lower",
        range=(0.0, math.inf),
    ),
    Metric(name="spearman", kinds=_NUMBERS, of="numbers", function=_spearman, range=(-1.0, 1.0)),
    Metric(name="pearson", kinds=_NUMBERS, of="numbers", function=_pearson, range=(-1.0, 1.0)),
    Metric(name="squad_f1", kinds=_SPANS, of="answers", function=_squad_f1),
    Metric(name="squad_em", kinds=_SPANS, of="answers", function=_squad_em),
):
    register_metric(_metric)
