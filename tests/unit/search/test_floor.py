"""The baseline of a task, and how sure a winner's scores are, from real outputs of a tiny encoder."""

from dataclasses import replace

import numpy as np
import pytest
from embeddings import toy_data
from tiny import MAX_TOKENS, tiny_backbone, toy_spans

from pipelines.folds import start_training
from pipelines.methods import PROBE
from pipelines.tasks.encoded import encode_task
from search.floor import Floor, floor_texts, measure_floor, winner_intervals
from search.record import Baseline

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def measured(data, backbone):
    task = encode_task(data, backbone, MAX_TOKENS)
    texts = floor_texts(task, data, backbone)
    return task, measure_floor(texts, task, data.test.labels, backbone, precision="fp32", cache=None)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_probe_knows_more_than_who_says_the_same_of_every_text(backbone, kind, pairs):
    data = toy_data(kind, pairs=pairs, rows=160)
    task, floor = measured(data, backbone)
    assert floor.baseline.method == "probe"
    assert floor.baseline.validation > 0.8
    assert floor.baseline.test > 0.6
    assert not floor.baseline.majority > 0.55
    assert floor.baseline.test == task.score(floor.test, data.test.labels)[task.metric]


def test_the_most_frequent_class_is_said_of_every_text(backbone):
    data = toy_data()
    rare = replace(data.train, labels=(np.arange(len(data.train)) % 3 == 0).astype(np.int64))
    _, floor = measured(replace(data, train=rare), backbone)
    assert floor.baseline.majority == (data.test.labels == 0).mean()


def test_the_mean_is_said_of_every_text(backbone):
    data = toy_data("regression")
    task = encode_task(data, backbone, MAX_TOKENS)
    (constant,) = task.rules.constant_outputs(task.train_targets, 1)
    assert constant * task.scale.std + task.scale.mean == pytest.approx(data.train.labels.mean())


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_probe_in_folds_is_validated_on_rows_that_it_was_not_fitted_on(backbone, kind):
    data = toy_data(kind, rows=60)
    rng = np.random.default_rng(0)  # nothing can be learned: who has seen a row knows it all the same
    noise = replace(data.train, labels=rng.permutation(data.train.labels))
    data = replace(data, train=noise, validation=noise, folds=np.arange(60) // 2 % 3)
    task = encode_task(data, backbone, MAX_TOKENS).in_folds(data.folds)
    texts = floor_texts(task, data, backbone, refit=True)
    floor = measure_floor(texts, task, data.test.labels, backbone, precision="fp32", cache=None)
    seen = PROBE.prepare(encode_task(data, backbone, MAX_TOKENS), data, backbone, searched={}, vectors={})
    folded = start_training(
        seen.in_folds(data.folds),
        lambda view: PROBE.make_training(
            backbone, view, PROBE.config({}, seed=0), pooling="mean", precision="fp32", vectors={}
        ),
    )
    (epoch,) = folded.run()
    assert floor.baseline.validation == epoch.scores[task.metric]
    assert floor.baseline.validation < 0.7


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_beside_a_refit_the_probe_is_fitted_on_all_rows_too(backbone, kind):
    data = toy_data(kind, rows=40)
    task = encode_task(data, backbone, MAX_TOKENS)
    texts = floor_texts(task, data, backbone, refit=True)
    floor = measure_floor(texts, task, data.test.labels, backbone, precision="fp32", cache=None)
    both = replace(data, train=data.train.followed_by(data.validation))
    _, expected = measured(both, backbone)
    np.testing.assert_allclose(floor.test, expected.test, atol=1e-4)
    assert floor.baseline.test == expected.baseline.test
    assert floor.baseline.validation == measured(data, backbone)[1].baseline.validation


def test_spans_have_no_baseline(backbone):
    data = toy_spans()
    assert floor_texts(encode_task(data, backbone, MAX_TOKENS), data, backbone) is None


def perfect(targets, right):
    outputs = np.zeros((len(targets), 2))
    outputs[np.arange(len(targets)), np.where(right, targets, 1 - targets)] = 1
    return outputs


def test_a_winner_has_intervals_on_both_sets_and_of_its_gain(backbone):
    data = toy_data()
    task = encode_task(data, backbone, MAX_TOKENS)
    targets = data.test.labels
    right = np.arange(20) < 16
    floor = Floor(Baseline("probe", 0.5, 0.5, 0.5), perfect(targets, np.arange(20) < 10))
    outputs = [perfect(data.validation.labels, right)], [perfect(targets, right)]
    found = winner_intervals(task, *outputs, targets, floor)
    assert found.validation[0] < 0.8 < found.validation[1]
    assert found.test[0] < 0.8 < found.test[1]
    assert 0 < found.gain[0] < 0.3 < found.gain[1]
    assert winner_intervals(task, *outputs, targets, None).gain is None


def test_of_a_loss_a_gain_is_what_is_less(backbone):
    data = toy_data()
    task = replace(encode_task(data, backbone, MAX_TOKENS), metric="log_loss", metrics=("log_loss",))
    targets = data.test.labels
    good, bad = perfect(targets, np.ones(20, bool)) * 3, perfect(targets, np.arange(20) < 10)
    floor = Floor(Baseline("probe", 0.5, 0.5, 0.7), bad)
    found = winner_intervals(task, [good], [good], targets, floor)
    assert 0 < found.gain[0] < found.gain[1]
