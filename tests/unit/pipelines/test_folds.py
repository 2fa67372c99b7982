"""Trials in folds, and refits: what their models see, beside trainings of the same rows by themselves."""

from dataclasses import replace

import numpy as np
import pytest
from embeddings import config as tower_config
from embeddings import toy_data, toy_vectors
from tiny import MAX_TOKENS, config, tiny_backbone, toy_spans, toy_task, training

from pipelines.checkpoint import dump_state, load_state
from pipelines.encoder.prefix import PrefixCache
from pipelines.encoder.tokens import Tokens
from pipelines.epochs import predicted
from pipelines.folds import FoldedTraining, start_training
from pipelines.methods import EMBEDDINGS, PROBE
from pipelines.packs.pack import Pack
from pipelines.packs.training import Training
from pipelines.probe.config import ProbeConfig
from pipelines.tasks.encoded import encode_task

FOLDS = 3


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def in_folds(kind="classification", rows=24):
    task = toy_task(kind, rows=rows)
    task = replace(task, validation_targets=task.train_targets)
    return task.in_folds(np.arange(rows) // 2 % FOLDS)


def copied(tokens):
    """The same texts in arrays of their own."""
    return tokens.followed_by(tokens.take(np.arange(0)))


def alone(view):
    return replace(view, train=copied(view.train), validation=copied(view.validation))


def folded(backbone, task=None, **changes):
    return start_training(task or in_folds(), lambda view: training(backbone, view, **changes))


def numbers(epochs):
    return [(epoch.train_loss, epoch.scores, epoch.validation_loss) for epoch in epochs]


def test_some_of_a_tasks_texts_lie_in_the_tasks_own_arrays():
    task = in_folds()
    for number in range(FOLDS):
        view = task.fold(number)
        for tokens in (view.train, view.validation):
            assert tokens.ids is task.train.ids
    assert task.validation is task.train


def test_a_view_has_the_tokens_of_its_texts():
    whole = Tokens(np.arange(9, dtype=np.int32), np.array([0, 2, 3, 7, 9]), None)
    view = whole.take(np.array([3, 1, 2])).take(np.array([0, 2]))
    assert (len(view), view.starts.tolist(), view.lengths.tolist()) == (2, [7, 3], [2, 4])
    assert copied(view).ids.tolist() == [7, 8, 3, 4, 5, 6]
    assert copied(view).offsets.tolist() == [0, 2, 6]
    assert view.whole.offsets is whole.offsets


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_each_row_is_predicted_by_a_model_of_the_other_folds(backbone, kind):
    """By reference: a training of those rows by itself, without any folds."""
    task = in_folds(kind)
    found = folded(backbone, task, epochs=1)
    (epoch,) = found.run()
    outputs = predicted(found.state())
    for number in range(FOLDS):
        view = alone(task.fold(number))
        one = training(backbone, view, epochs=1)
        list(one.run())
        expected = one.outputs * view.scale.std + view.scale.mean
        own = outputs[task.folds == number] * task.scale.std + task.scale.mean
        np.testing.assert_allclose(own, expected, rtol=1e-6)
    assert epoch.scores == task.score(outputs, task.train_targets)


@pytest.mark.integration
def test_the_predictions_of_the_best_epoch_are_kept(backbone):
    found = folded(backbone)
    epochs = list(found.run())
    assert len(epochs) == 3
    scores = found.task.score(predicted(found.state()), found.task.train_targets)
    assert scores["accuracy"] == max(epoch.score for epoch in epochs)


@pytest.mark.integration
@pytest.mark.parametrize("done", [1, 2])
def test_a_training_in_folds_goes_on_from_its_checkpoint_as_if_it_had_never_stopped(backbone, done):
    steady, first = folded(backbone), folded(backbone)
    list(steady.run())
    running = first.run()
    for _ in range(done):
        next(running)
    second = folded(backbone)
    second.restore(load_state(dump_state(first.state())))
    list(second.run())
    assert numbers(second.epochs) == numbers(steady.epochs)
    np.testing.assert_array_equal(predicted(second.state()), predicted(steady.state()))


def test_a_finished_training_keeps_what_was_predicted_and_no_model(backbone):
    found = folded(backbone, epochs=1)
    list(found.run())
    assert set(found.state().tensors) == {"predicted"}
    again = folded(backbone, epochs=1)
    again.restore(load_state(dump_state(found.state())))
    assert again.finished


@pytest.mark.integration
def test_folds_side_by_side_in_a_pack_are_what_they_are_alone(backbone):
    pack = Pack(backbone, pooling="pooler", precision="fp32")

    def make(view):
        return Training(backbone, view, config(), pack=pack, precision="fp32")

    together, steady = FoldedTraining(in_folds(), make), folded(backbone)
    list(steady.run())
    while not together.finished:
        for member in pack.step():
            together.note_end(member)
    np.testing.assert_allclose(predicted(together.state()), predicted(steady.state()), atol=1e-4)


@pytest.mark.integration
@pytest.mark.parametrize("cached", [True, False])
def test_folds_read_what_is_known_of_the_lowest_layers_once(backbone, tmp_path, cached):
    cache = PrefixCache(tmp_path, 1) if cached else None

    def make(view):
        given = config(first_layer=1, epochs=1)
        return Training(backbone, view, given, precision="fp32", cache=cache)

    found = start_training(in_folds(), make)
    list(found.run())
    expected = folded(backbone, first_layer=1, epochs=1)
    list(expected.run())
    np.testing.assert_allclose(predicted(found.state()), predicted(expected.state()), rtol=1e-3, atol=1e-4)
    assert len(list(tmp_path.glob("*.hidden"))) == int(cached)


@pytest.mark.integration
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(("method", "given"), [(PROBE, ProbeConfig()), (EMBEDDINGS, tower_config())])
def test_other_methods_have_folds_and_refits_by_the_same_interface(backbone, tmp_path, method, given, cached):
    data = toy_data(rows=30)
    data = replace(data, validation=data.train)
    vectors = {"glove": toy_vectors()}
    task = encode_task(data, backbone, MAX_TOKENS)
    task = method.prepare(task, data, backbone, searched={}, vectors=vectors)
    task = task.in_folds(np.arange(30) // 2 % FOLDS)
    cache = PrefixCache(tmp_path, 1) if cached else None

    def make(view):
        return method.make_training(
            backbone, view, given, pooling="cls", precision="fp32", vectors=vectors, cache=cache
        )

    found = start_training(task, make)
    list(found.run())
    assert found.epochs[-1].score > 0.8  # learned from the other folds
    assert predicted(found.state()).shape == (30, 2)
    again = make(task.refitted())
    list(again.run())
    assert [epoch.scores for epoch in again.epochs] == [{}] * given.epochs
    assert again.state().best


@pytest.mark.integration
def test_a_fold_of_a_probe_is_fitted_as_its_rows_are_by_themselves(backbone):
    data = toy_data(rows=30)
    data = replace(data, validation=data.train)
    task = PROBE.prepare(
        encode_task(data, backbone, MAX_TOKENS), data, backbone, searched={}, vectors={}
    ).in_folds(np.arange(30) // 2 % FOLDS)

    def make(view):
        return PROBE.make_training(backbone, view, ProbeConfig(), pooling="cls", precision="fp32", vectors={})

    found = start_training(task, make)
    list(found.run())
    for number in range(FOLDS):
        rows = np.flatnonzero(task.folds != number)
        own = replace(
            data,
            train=data.train.take(rows),
            validation=data.train.take(np.flatnonzero(task.folds == number)),
        )
        one = PROBE.prepare(encode_task(own, backbone, MAX_TOKENS), own, backbone, searched={}, vectors={})
        reference = make(one)
        list(reference.run())
        np.testing.assert_allclose(
            predicted(found.state())[task.folds == number], reference.outputs, atol=1e-3
        )


@pytest.mark.integration
def test_a_refit_trains_on_train_and_validation_as_on_a_training_set_of_both(backbone):
    task = toy_task(rows=20, validation_rows=12)
    refit = training(backbone, task.refitted(), epochs=2)
    both = replace(
        task,
        train=task.train.followed_by(task.validation),
        train_targets=np.concatenate([task.train_targets, task.validation_targets]),
    )
    expected = training(backbone, both, epochs=2)
    list(refit.run())
    list(expected.run())
    assert [epoch.train_loss for epoch in refit.epochs] == [epoch.train_loss for epoch in expected.epochs]
    assert [epoch.scores for epoch in refit.epochs] == [{}, {}]
    assert len(task.refitted().train) == 32


@pytest.mark.integration
def test_a_refit_keeps_its_last_epoch_whatever_its_loss(backbone):
    refit = training(backbone, toy_task(rows=20).refitted(), epochs=4, learning_rate=0.3)
    running = refit.run()
    for _ in range(4):
        next(running)
        now = {name: view.clone() for name, view in refit.model.trained(0).items()}
        assert all((refit.best[name] == value).all() for name, value in now.items())


def test_a_refit_of_questions_trains_on_the_windows_of_both_sets(backbone):
    data = toy_spans(rows=6, validation_rows=4)
    lost = replace(data.validation[0], starts=(999,))  # its answer is not where it is said to be
    task = encode_task(replace(data, validation=(lost, *data.validation[1:])), backbone, MAX_TOKENS)
    refit = task.refitted()
    assert len(refit.train) == 6 + 3
    windows = task.validation_targets.windows
    np.testing.assert_array_equal(refit.train_targets[6:, 0], windows.starts[1:])
    found = training(backbone, refit, epochs=1)
    assert [epoch.scores for epoch in found.run()] == [{}]
