"""What a trial's best epoch predicted of the validation set is kept with its checkpoint."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny import MAX_TOKENS, tiny_backbone, toy_spans, toy_task, training

from pipelines.checkpoint import dump_state, load_state
from pipelines.epochs import outputs_to_keep, predicted
from pipelines.tasks.encoded import encode_task


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture(scope="module")
def task():
    return toy_task(rows=24, validation_rows=12)


def timeless(epochs):
    """Epoch results without what the clock says."""
    return [dataclasses.replace(epoch, seconds=0.0, finished_at=0.0) for epoch in epochs]


def test_a_state_has_what_the_best_epoch_predicted_of_the_validation_set(backbone):
    run = training(backbone, toy_task(rows=48, validation_rows=24), epochs=4, learning_rate=3e-2)
    assert predicted(run.state()) is None
    for _ in run.run():
        state = load_state(dump_state(run.state()))
        scores = run.task.score(predicted(state), run.task.validation_targets)
        assert scores["accuracy"] == max(epoch.score for epoch in run.epochs)
    assert predicted(state).shape == (24, 2)


def test_what_the_best_epoch_predicted_goes_on_through_a_restart(backbone):
    task = toy_task(rows=48, validation_rows=24)
    steady, first, second = (training(backbone, task, epochs=3, learning_rate=3e-2) for _ in range(3))
    list(steady.run())
    next(first.run())
    second.restore(load_state(dump_state(first.state())))
    restored, stopped = second.state().tensors, first.state().tensors
    assert restored.keys() == stopped.keys()
    assert all(torch.equal(restored[name], stopped[name]) for name in stopped)
    list(second.run())
    assert (predicted(second.state()) == predicted(steady.state())).all()


def test_a_checkpoint_of_before_has_no_predictions_and_is_trained_on(backbone, task):
    run = training(backbone, task)
    next(run.run())
    state = run.state()
    before = dataclasses.replace(state, tensors={k: v for k, v in state.tensors.items() if k != "predicted"})
    again = training(backbone, task)
    again.restore(before)
    assert predicted(again.state()) is None
    list(again.run())
    assert timeless(again.epochs) == timeless(list(state.epochs) + list(run.run()))


def test_predictions_of_every_token_are_not_kept(backbone):
    assert outputs_to_keep(np.zeros((3, 2)), toy_task()) != {}
    spans = encode_task(toy_spans(), backbone, MAX_TOKENS)
    assert outputs_to_keep(np.zeros((3, 2)), spans) == {}
    assert outputs_to_keep(np.zeros((3, 2)), dataclasses.replace(toy_task(), metrics=())) == {}
