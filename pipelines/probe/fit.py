"""Fitting a linear model: logistic regression or ridge, its strength chosen by cross-validation on train.

A strength is the weight of half the squared norm of the weights beside the mean loss of a row, features and
numbers being standardised: so it means the same for any number of rows and any encoder.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

# The strongest first: 10 to 1e-5.
STRENGTHS: tuple[float, ...] = tuple(10.0 ** (power / 2) for power in range(2, -11, -1))
FOLDS = 5
MOST_ROWS = 10_000  # that choose the strength
_ITERATIONS = 500
_NEVER = 10.0  # how far, in logits, a class without rows stays below the least of the others


@dataclass(frozen=True)
class Linear:
    """Outputs are `features @ weight.T + bias`; weight (outputs, features), bias (outputs,)."""

    weight: Matrix
    bias: Matrix
    strength: float


def fit_classes(features: Matrix, targets: NDArray[np.int64], classes: int, *, seed: int) -> Linear:
    """Logistic regression: of the strengths the one with the least log loss on rows left out.

    Args:
        features: (rows, features).
        targets: of each row its class, from 0 to below `classes`, not all of which need have rows.
        seed: of the folds, and of the rows that choose where there are more than `MOST_ROWS`.
    """
    scaled, mean, size = _standardised(features)
    present, known = np.unique(targets, return_inverse=True)
    weight, bias = np.zeros((classes, features.shape[1])), np.zeros(classes)
    strength = STRENGTHS[0]
    if len(present) > 1:
        strength = _best_strength(scaled, known, seed)
        model = _logistic(strength, len(scaled))
        with _quietly():
            model.fit(scaled, known)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(present) == 2:  # one row of coefficients, for the second class against the first
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        weight[present], bias[present] = coefficients, intercepts
    absent = np.setdiff1d(np.arange(classes), present)
    weight[absent] = weight[present].mean(axis=0)
    bias[absent] = bias[present].min() - _NEVER
    return _unscaled(weight, bias, mean, size, strength)


def fit_numbers(features: Matrix, targets: Matrix) -> Linear:
    """Ridge regression: of the strengths the one with the least squared error on each row left out.

    Args:
        features: (rows, features).
        targets: (rows,), standardised.
    """
    from sklearn.linear_model import RidgeCV  # takes a second to import

    scaled, mean, size = _standardised(features)
    model = RidgeCV(alphas=[strength * len(scaled) for strength in STRENGTHS])
    with _quietly():
        model.fit(scaled, targets)
    weight, bias = model.coef_.reshape(1, -1), np.atleast_1d(model.intercept_)
    return _unscaled(weight, bias, mean, size, float(model.alpha_) / len(scaled))


def _standardised(features: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    mean, size = features.mean(axis=0), features.std(axis=0)
    size = np.where(size > 1e-12, size, 1.0)  # what never changes says nothing
    return (features - mean) / size, mean, size


def _unscaled(weight: Matrix, bias: Matrix, mean: Matrix, size: Matrix, strength: float) -> Linear:
    weight = weight / size
    return Linear(weight, bias - weight @ mean, strength)


def _best_strength(features: Matrix, targets: NDArray[np.int64], seed: int) -> float:
    """From the strongest on until it gets worse twice: weak ones take longest, and overfit."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(features))[:MOST_ROWS]
    features, targets = features[rows], targets[rows]
    folds = _folds(targets, rng)
    best: float = STRENGTHS[0]
    least, worse = float("inf"), 0
    models = [_logistic(best, len(features), warm_start=True) for _ in folds]
    for strength in STRENGTHS:
        loss = _held_out_loss(models, features, targets, folds, strength)
        if loss < least:
            best, least, worse = strength, loss, 0
        else:
            worse += 1
        if worse == 2:
            break
    return best


def _held_out_loss(
    models: Sequence[Any],
    features: Matrix,
    targets: NDArray[np.int64],
    folds: Sequence[NDArray[np.int64]],
    strength: float,
) -> float:
    """The mean log loss of the rows of all folds, each by a model of the others."""
    total = 0.0
    for model, fold in zip(models, folds, strict=True):
        learned = np.ones(len(targets), dtype=bool)
        learned[fold] = False
        model.C = 1 / (strength * learned.sum())
        with _quietly():
            model.fit(features[learned], targets[learned])
            said = model.predict_proba(features[fold])
        column = {int(name): place for place, name in enumerate(model.classes_)}
        own = [
            said[row, column[target]] if target in column else 0 for row, target in enumerate(targets[fold])
        ]
        total -= float(np.log(np.clip(own, 1e-9, None)).sum())
    return total / len(targets)


def _folds(targets: NDArray[np.int64], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Rows by fold, each class spread over them; in the rest of every fold are two classes at least."""
    order = rng.permutation(len(targets))
    order = order[np.argsort(targets[order], kind="stable")]
    folds = [order[start::FOLDS] for start in range(min(FOLDS, len(order)))]
    return [fold for fold in folds if len(np.unique(np.delete(targets, fold))) > 1]


def _logistic(strength: float, rows: int, *, warm_start: bool = False) -> Any:
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    return LogisticRegression(C=1 / (strength * rows), max_iter=_ITERATIONS, warm_start=warm_start)


@contextmanager
def _quietly() -> Iterator[None]:
    """With the cores that are a trial's own, of which BLAS would take all; a weak strength's last digits,
    which it stops short of, need no warning.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(torch.get_num_threads()), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
