"""A run that is ended from outside ends between two steps, and loses nothing that was finished."""

import pytest
import torch
from embeddings import training as towers
from tiny import config, tiny_backbone, toy_task

from pipelines.packs.training import Training


def encoder():
    backbone, task = tiny_backbone(), toy_task(rows=24, validation_rows=8)
    return Training(backbone, task, config(epochs=3, dropout=0.2), pooling="cls", precision="fp32")


class Stop:
    """True once it has been asked so often."""

    def __init__(self, steps):
        self.steps = steps

    def __call__(self):
        self.steps -= 1
        return self.steps < 0


@pytest.mark.parametrize("make", [encoder, towers])
def test_a_run_ends_before_the_next_step_with_the_last_finished_epoch(make):
    reference, training = make(), make()
    steps = Stop(10**9)
    first = next(reference.run(steps))
    an_epoch = 10**9 - steps.steps
    state = reference.state()
    stop = Stop(an_epoch + 1)
    assert [epoch.scores for epoch in training.run(stop)] == [first.scores]
    assert stop.steps == -1  # it was not asked again: one step of the second epoch was taken
    assert len(training.epochs) == 1
    assert all(torch.equal(training.best[name], tensor) for name, tensor in state.best.items())
    with pytest.raises(ValueError, match="it has no state"):
        training.state()


@pytest.mark.parametrize("make", [encoder, towers])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_stopped_run_goes_on_at_the_very_step(make, steps):
    undisturbed, training = make(), make()
    expected = [(epoch.scores, epoch.train_loss) for epoch in undisturbed.run()]
    list(training.run(Stop(steps)))
    list(training.run())
    assert [(epoch.scores, epoch.train_loss) for epoch in training.epochs] == expected


@pytest.mark.parametrize("make", [encoder, towers])
def test_a_stopped_run_goes_on_from_its_last_state(make):
    undisturbed, training = make(), make()
    expected = [epoch.scores for epoch in undisturbed.run()]
    next(training.run())
    state = training.state()
    list(training.run(Stop(1)))
    training.restore(state)
    list(training.run())
    assert [epoch.scores for epoch in training.epochs] == expected
