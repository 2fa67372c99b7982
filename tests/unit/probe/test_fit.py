"""The linear models of `probe`: what they fit, what chooses their strength, and data that is hard to fit."""

import numpy as np
import pytest
from scipy.special import softmax

from pipelines.probe import fit
from pipelines.probe.fit import STRENGTHS, fit_classes, fit_numbers

pytestmark = pytest.mark.integration


def blobs(rows, classes, *, noise=1.0, width=6, seed=0):
    """Features around a point for each class, none of unit size or mean zero."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1, (classes, width))
    targets = np.arange(rows) % classes
    found = centres[targets] + rng.normal(0, noise, (rows, width))
    return found * rng.uniform(0.1, 30, width) + rng.uniform(-5, 5, width), targets


def outputs(model, features):
    return features @ model.weight.T + model.bias


def objective(model, features, targets):
    """What a logistic regression of this strength minimises, over standardised features."""
    said = softmax(outputs(model, features), axis=1)
    weights = model.weight * features.std(axis=0)
    centred = weights - weights.mean(axis=0)  # what is added to all classes alike changes no probability
    loss = -np.log(said[np.arange(len(targets)), targets]).mean()
    return loss + model.strength / 2 * (centred**2).sum()


@pytest.mark.parametrize("classes", [3, 5])
def test_classes_are_fitted_to_the_least_of_what_the_strength_says(classes):
    features, targets = blobs(90, classes)
    model = fit_classes(features, targets, classes, seed=0)
    least = objective(model, features, targets)
    rng = np.random.default_rng(1)
    for _ in range(50):
        moved = rng.normal(0, 0.02, model.weight.shape) / features.std(axis=0)
        shift = rng.normal(0, 0.02, classes)
        bias = model.bias - moved @ features.mean(axis=0) + shift
        other = fit.Linear(model.weight + moved, bias, model.strength)
        assert objective(other, features, targets) > least


def test_two_classes_have_opposite_outputs():
    features, targets = blobs(60, 2)
    said = outputs(fit_classes(features, targets, 2, seed=0), features)
    np.testing.assert_allclose(said[:, 0], -said[:, 1], atol=1e-9)
    assert (said.argmax(axis=1) == targets).mean() > 0.8


def test_noise_is_fitted_with_a_strong_hand_and_clear_classes_with_a_weak_one():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(0, 1, (80, 30)), rng.integers(0, 2, 80)
    noise = fit_classes(features, targets, 2, seed=0)
    clear = fit_classes(*blobs(80, 2, noise=0.3, width=30), 2, seed=0)
    assert noise.strength >= 0.1 > clear.strength
    said = softmax(outputs(noise, rng.normal(0, 1, (500, 30))), axis=1)
    assert np.abs(said - 0.5).max() < 0.4  # nothing is claimed of what cannot be told


def test_rows_twice_give_the_same_model():
    features, targets = blobs(90, 3)
    once = fit_classes(features, targets, 3, seed=0)
    scaled, mean, size = fit._standardised(np.concatenate([features, features]))
    model = fit._logistic(once.strength, len(scaled)).fit(scaled, np.concatenate([targets, targets]))
    twice = fit._unscaled(model.coef_, model.intercept_, mean, size, once.strength)
    np.testing.assert_allclose(outputs(twice, features), outputs(once, features), atol=0.01)


def test_a_class_without_rows_is_never_said():
    features, targets = blobs(60, 2)
    model = fit_classes(features, targets * 2, 4, seed=0)  # 1 and 3 have none
    said = outputs(model, features)
    assert {*said.argmax(axis=1)} == {0, 2}
    assert softmax(said, axis=1)[:, [1, 3]].max() < 1e-3
    assert np.isfinite(said).all()


@pytest.mark.parametrize("targets", [[0] * 12, [0] * 11 + [1], [0, 1], [0, 1, 2], [1]])
def test_the_fewest_rows_are_fitted(targets):
    features = np.random.default_rng(0).normal(0, 1, (len(targets), 4))
    model = fit_classes(features, np.array(targets), 3, seed=0)
    assert np.isfinite(model.weight).all()
    assert np.isfinite(model.bias).all()
    assert outputs(model, features).shape == (len(targets), 3)


def test_a_feature_that_never_changes_has_no_weight():
    features, targets = blobs(60, 3)
    features[:, 2] = 7
    model = fit_classes(features, targets, 3, seed=0)
    np.testing.assert_allclose(model.weight[:, 2], 0, atol=1e-9)


def test_of_many_rows_some_choose_and_all_are_fitted(monkeypatch):
    features, targets = blobs(200, 2)
    monkeypatch.setattr(fit, "MOST_ROWS", 50)
    seen = []
    fold_loss = fit._held_out_loss
    monkeypatch.setattr(fit, "_held_out_loss", lambda *given: seen.append(len(given[1])) or fold_loss(*given))
    model = fit_classes(features, targets, 2, seed=0)
    assert {*seen} == {50}
    assert (outputs(model, features).argmax(axis=1) == targets).mean() > 0.8


def test_every_row_is_left_out_once_and_classes_are_spread():
    targets = np.array([0] * 50 + [1] * 10 + [2] * 5)
    folds = fit._folds(targets, np.random.default_rng(0))
    assert sorted(np.concatenate(folds)) == list(range(65))
    assert [np.bincount(targets[fold]).tolist() for fold in folds] == [[10, 2, 1]] * 5


def test_numbers_are_fitted_as_ridge_regression_s_own_formula_says():
    rng = np.random.default_rng(0)
    features = rng.normal(3, 2, (40, 5))
    targets = features @ rng.normal(0, 1, 5) + rng.normal(0, 0.5, 40)
    model = fit_numbers(features, targets)
    assert model.strength in [pytest.approx(strength) for strength in STRENGTHS]
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    gram = scaled.T @ scaled + model.strength * len(scaled) * np.eye(5)
    weight = np.linalg.solve(gram, scaled.T @ (targets - targets.mean()))
    np.testing.assert_allclose(outputs(model, features)[:, 0], scaled @ weight + targets.mean(), atol=1e-8)
