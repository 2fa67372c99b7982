"""A pack's model stays while trials come and go: who sits down in an idle place gives what it gives alone."""

import dataclasses

import pytest
import torch
from stand_ins import without_kernels
from tiny import tiny_backbone, toy_spans, toy_task

from pipelines.config import TrainConfig
from pipelines.encoder.prefix import PrefixCache
from pipelines.packs.pack import Pack
from pipelines.packs.training import Training
from pipelines.tasks.encoded import encode_task


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture(scope="module")
def task():
    return toy_task(rows=24, validation_rows=8)


def config(seed, **changes):
    given = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 8, "adapter_size": 8, "seed": seed}
    return TrainConfig(**given | changes)


def new_pack(backbone, *, fused=False):
    return Pack(backbone, pooling="cls", precision="fp32", fused=fused)


def losses(training):
    return [epoch.train_loss for epoch in training.epochs]


def alone(backbone, task, one):
    training = Training(backbone, task, one, precision="fp32", pooling="cls")
    list(training.run())
    return losses(training)


def finish(pack, *trainings):
    while not all(one.finished for one in trainings):
        pack.step()


def one_after_the_other(backbone, task, first, then, *, fused=False):
    """All of `first` in a pack; whenever one of them has ended, the next of `then` comes. Also returns the
    models that they had, but for the last of all alone.
    """
    pack = new_pack(backbone, fused=fused)
    waiting, models = list(then), []
    trainings = [Training(backbone, task, one, pack=pack) for one in first]
    while not all(one.finished for one in trainings):
        for one in [one for one in pack.members if one.finished]:
            pack.leave(one)
            if waiting:
                trainings.append(Training(backbone, task, waiting.pop(0), pack=pack))
        pack.step()
        if len(pack.members) > 1 and not any(pack.model is model for model in models):
            models.append(pack.model)
    return trainings, models


@pytest.mark.integration
def test_who_takes_the_place_of_another_gives_what_it_gives_alone(backbone, task):
    """With its own size, dropout, decay and classes; and nothing of who sat there before."""
    first = [config(1, epochs=4), config(2, epochs=1), config(3, adapter_size=16, learning_rate=1e-2)]
    then = [
        config(4, dropout=0.3, weight_decay=3.0),
        config(5, adapter_size=4),
        config(6, dropout=0.0, batch_size=5),
    ]
    trainings, models = one_after_the_other(backbone, task, first, then)
    assert len(models) == 1
    for training, one in zip(trainings, [*first, *then], strict=True):
        assert losses(training) == pytest.approx(alone(backbone, task, one), rel=1e-5)


def test_places_are_a_power_of_two_and_some_are_idle(backbone, task):
    pack = new_pack(backbone)
    trainings = [Training(backbone, task, config(seed), pack=pack) for seed in range(5)]
    pack.step()
    assert (len(pack.model.occupants), pack.model.idle) == (8, [5, 6, 7])
    pack.leave(trainings[1])
    assert pack.model.idle == [1, 5, 6, 7]


def test_nothing_of_a_trial_stays_at_the_place_that_it_leaves(backbone, task):
    """Its norms are the encoder's again, all else is 0, and a step changes nothing there."""
    pack = new_pack(backbone)
    trainings = [Training(backbone, task, config(seed), pack=pack) for seed in range(3)]
    pack.step()
    model, optimizer = pack.model, pack.optimizer
    untouched = model.bank.values[3].clone()
    pack.leave(trainings[0])
    pack.step()
    assert pack.model is model
    assert torch.equal(model.bank.values[0], untouched)
    for moments in optimizer.moments.values():
        assert not moments[0].any()


@pytest.mark.integration
@pytest.mark.parametrize(
    "comes",
    [
        pytest.param(config(9, adapter_size=32), id="its adapters are larger than any there was room for"),
        pytest.param(config(9, dropout=0.2), id="it drops where nobody has dropped anything"),
        pytest.param(config(9, first_layer=0), id="it trains layers below all others"),
    ],
)
def test_a_trial_that_does_not_fit_the_places_is_given_new_ones(backbone, task, comes):
    first = [config(seed, dropout=0.0, first_layer=1, epochs=3) for seed in range(2)]
    first.append(config(7, dropout=0.0, first_layer=1, epochs=1))
    trainings, models = one_after_the_other(backbone, task, first, [comes])
    assert len(models) == 2
    for training, one in zip(trainings, [*first, comes], strict=True):
        assert losses(training) == pytest.approx(alone(backbone, task, one), rel=1e-5)


def test_who_reads_every_token_is_given_places_where_that_can_be_done(backbone, task):
    spans = encode_task(toy_spans(rows=24, validation_rows=8), backbone, 48)
    pack = new_pack(backbone)
    first = Training(backbone, task, config(1), pack=pack)
    second = Training(backbone, task, config(2, epochs=1), pack=pack)
    finish(pack, second)
    pack.leave(second)
    third = Training(backbone, spans, config(3), pack=pack)
    finish(pack, first, third)
    assert losses(third) == pytest.approx(alone(backbone, spans, config(3)), rel=1e-5)


@pytest.mark.integration
def test_room_that_was_made_for_a_large_trial_stays(backbone, task):
    """The next large one is not the reason for a new model."""
    first = [config(1, epochs=6), config(2, epochs=1), config(3, epochs=6)]
    then = [config(4, epochs=1, adapter_size=32), config(5, epochs=1), config(6, epochs=1, adapter_size=32)]
    _, models = one_after_the_other(backbone, task, first, then)
    assert len(models) == 2


def test_when_most_places_are_idle_a_smaller_model_takes_over(backbone, task):
    pack = new_pack(backbone)
    trainings = [Training(backbone, task, config(seed), pack=pack) for seed in range(8)]
    pack.step()
    for one in trainings[:5]:
        pack.leave(one)
    pack.step()
    assert len(pack.model.occupants) == 8
    pack.leave(trainings[5])
    pack.step()
    assert len(pack.model.occupants) == 2


def test_when_nobody_trains_the_lowest_layers_any_more_they_are_not_trained_through(backbone, task):
    pack = new_pack(backbone)
    low, high = config(1, epochs=1), config(2, first_layer=1)
    trainings = [Training(backbone, task, one, pack=pack) for one in (low, high)]
    finish(pack, trainings[0])
    assert pack.model.boundary == 0
    pack.step()
    assert pack.model.boundary == 1
    finish(pack, trainings[1])
    assert losses(trainings[1]) == pytest.approx(alone(backbone, task, high), rel=1e-5)


@pytest.mark.integration
def test_idle_places_change_nothing_of_passes_that_are_computed_with_them(backbone, task, monkeypatch):
    """As recorded ones are: every place has texts always."""
    without_kernels(monkeypatch)
    first = [config(1, epochs=4), config(2, epochs=1), config(3)]
    then = [config(4, dropout=0.3), config(5, adapter_size=4, epochs=1)]
    trainings, models = one_after_the_other(backbone, task, first, then, fused=True)
    assert len(models) == 1
    assert models[0].idle
    for training, one in zip(trainings, [*first, *then], strict=True):
        assert losses(training) == pytest.approx(alone(backbone, task, one), rel=1e-5)


@pytest.mark.integration
def test_a_trial_whose_parameters_are_no_numbers_any_more_reaches_no_other_place(backbone, task, monkeypatch):
    """Nor who sits there after it."""
    without_kernels(monkeypatch)
    pack = new_pack(backbone, fused=True)
    bad, good = (Training(backbone, task, config(seed, epochs=3), pack=pack) for seed in (1, 2))
    pack.step()
    bad.model.trained(0)["head.weight"].fill_(float("nan"))
    while bad.failure is None:
        pack.step()
    after = Training(backbone, task, config(3), pack=pack)
    finish(pack, good, after)
    for training, one in ((good, config(2, epochs=3)), (after, config(3))):
        assert losses(training) == pytest.approx(alone(backbone, task, one), rel=1e-5)


@pytest.mark.integration
def test_a_restored_trial_does_not_disturb_who_is_there(backbone, task):
    one = config(1, epochs=3)
    saved = Training(backbone, task, one, precision="fp32", pooling="cls")
    next(iter(saved.run()))
    pack = new_pack(backbone)
    others = [Training(backbone, task, config(seed, epochs=3), pack=pack) for seed in (2, 3, 4)]
    pack.step()
    pack.leave(others.pop())
    model = pack.model
    back = Training(backbone, task, one, pack=pack)
    back.restore(saved.state())
    assert pack.model is model
    finish(pack, back, *others)
    assert losses(back) == pytest.approx(alone(backbone, task, one), rel=1e-5)


def test_a_known_lower_part_is_read_for_who_comes_later(tmp_path, backbone, task):
    other = dataclasses.replace(toy_task(rows=24, validation_rows=8, seed=5), name="other")
    pack = Pack(backbone, pooling="cls", precision="fp32", cache=PrefixCache(tmp_path, 1))
    first = [Training(backbone, task, config(seed, first_layer=1, epochs=2), pack=pack) for seed in (1, 2)]
    leaves = Training(backbone, task, config(3, first_layer=1, epochs=1), pack=pack)
    finish(pack, leaves)
    model = pack.model
    pack.leave(leaves)
    late = Training(backbone, other, config(4, first_layer=1), pack=pack)
    assert pack.model is model
    finish(pack, *first, late)
    assert losses(late) == pytest.approx(alone(backbone, other, config(4, first_layer=1)), rel=1e-5)
