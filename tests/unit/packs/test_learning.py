"""Regression targets of any unit; toy tasks that are learnt."""

import dataclasses

import numpy as np
import pytest
from tiny import tiny_backbone, toy_task, training

from pipelines.kinds import KINDS
from pipelines.tasks.kind import Scale

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture(scope="module")
def task():
    return toy_task(rows=24, validation_rows=12)


# Regression.


def test_targets_are_standardised_for_the_loss(backbone):
    task = toy_task("regression", rows=64)
    run = training(backbone, task)
    mean, std = task.scale
    assert mean == pytest.approx(np.mean(task.train_targets))
    assert std == pytest.approx(np.std(task.train_targets))
    np.testing.assert_allclose(run._targets.numpy() * std + mean, task.train_targets, rtol=1e-5)
    assert run._targets.mean().item() == pytest.approx(0, abs=1e-5)
    assert run._targets.std(unbiased=False).item() == pytest.approx(1, rel=1e-5)


def test_classification_targets_stay_as_they_are(backbone, task):
    assert task.scale == (0.0, 1.0)
    assert training(backbone, task)._targets.tolist() == task.train_targets.tolist()


def test_equal_regression_targets_divide_by_nothing():
    task = toy_task("regression", rows=8)
    constant = dataclasses.replace(task, train_targets=np.full(8, 3.0))
    assert constant.scale == (3.0, 1.0)


def test_regression_is_scored_in_original_units():
    outputs = np.array([[-1.0], [0.0], [2.0]])
    seen = KINDS["regression"].view("numbers", outputs, None, Scale(7000.0, 1000.0))
    assert seen.tolist() == [6000.0, 7000.0, 9000.0]


def test_the_unit_of_the_targets_does_not_matter(backbone):
    task = toy_task("regression", rows=24, validation_rows=12)
    far = dataclasses.replace(
        task,
        train_targets=task.train_targets * 1e6 - 1e3,
        validation_targets=task.validation_targets * 1e6 - 1e3,
    )
    near, scaled = (list(training(backbone, one).run()) for one in (task, far))
    assert [e.score for e in scaled] == pytest.approx([e.score for e in near], abs=1e-4)
    assert [e.train_loss for e in scaled] == pytest.approx([e.train_loss for e in near], rel=1e-3)


# Learning.


@pytest.mark.parametrize(("pairs", "rows"), [(False, 96), (True, 128)], ids=["single", "pairs"])
def test_a_toy_classification_is_learnt(backbone, pairs, rows):
    task = toy_task(pairs=pairs, rows=rows, validation_rows=64)
    run = training(backbone, task, adapter_size=8, epochs=8)
    results = list(run.run())
    assert max(result.score for result in results) >= 0.85  # chance is 0.5
    assert results[-1].train_loss < results[0].train_loss / 2
    assert [result.epoch for result in results] == list(range(1, 9))
    assert all(result.scores.keys() == {"accuracy", "f1"} for result in results)
    assert all(result.score == result.scores["accuracy"] for result in results)


def test_a_toy_regression_is_learnt(backbone):
    run = training(backbone, toy_task("regression", rows=128, validation_rows=64), adapter_size=8, epochs=8)
    results = list(run.run())
    assert max(result.score for result in results) > 0.6
    assert set(results[0].scores) == {"pearson", "spearman"}
    assert results[-1].train_loss < 0.5  # of standardised targets: the mean alone gives 1
    assert results[-1].validation_loss < 0.7  # the same unit


@pytest.mark.parametrize("model_type", ["deberta-v2", "distilbert", "modernbert"])
def test_other_architectures_learn_it_too(model_type):
    task = toy_task(rows=96, validation_rows=64)
    run = training(tiny_backbone(model_type), task, adapter_size=8, epochs=6)
    assert max(result.score for result in run.run()) >= 0.85
