"""Trials in one pack: each gives what it gives alone, whoever comes and goes beside it."""

import dataclasses
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from tiny import MAX_TOKENS, tiny_backbone, toy_spans, toy_task

from pipelines.config import TrainConfig
from pipelines.encoder.architectures import ARCHITECTURES
from pipelines.errors import TrialDiverged
from pipelines.packs import pack as pack_module
from pipelines.packs import recorded
from pipelines.packs.model import Occupant
from pipelines.packs.pack import Pack
from pipelines.packs.training import Training
from pipelines.tasks.encoded import encode_task


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture(scope="module")
def task():
    return toy_task(rows=40, validation_rows=16)


def config(**changes):
    return TrainConfig(**{"learning_rate": 1e-3, "epochs": 2, "batch_size": 8, "dropout": 0.0, **changes})


def new_pack(backbone, *, fused=False):
    return Pack(backbone, pooling=backbone.pooling("auto"), precision="fp32", fused=fused)


def alone(backbone, task, one):
    training = Training(backbone, task, one, precision="fp32")
    list(training.run())
    return training


def together(backbone, task, configs, *, late=(), leaves=None):
    """All in one pack; `late` join after seven steps, number `leaves` is taken out after nine."""
    pack = new_pack(backbone)
    trainings = [Training(backbone, task, one, pack=pack) for one in configs]
    for step in range(1000):
        if step == 7:
            trainings += [Training(backbone, task, one, pack=pack) for one in late]
        if step == 9 and leaves is not None:
            pack.leave(trainings[leaves])
        if all(one.finished for one in pack.members):
            break
        pack.step()
    return trainings


def assert_same(packed, single, but=()):
    """Losses and parameters to 1e-5 relative, at rates as the paper has them.

    Parameters by the norm of all adapters, norms or head: where a gradient is nearly zero, Adam makes steps
    of full size out of rounding. Where it is zero by nature, a parameter is left out by its name in `but`.
    """
    for mine, own in zip(packed.epochs, single.epochs, strict=True):
        assert mine.train_loss == pytest.approx(own.train_loss, rel=1e-5)
        assert mine.scores == pytest.approx(own.scores, abs=1e-5)
    assert packed.best.keys() == single.best.keys()
    for kind in ("adapter", "norm", "head"):
        names = [name for name in single.best if name.startswith(kind) and name not in but]
        mine, own = (torch.cat([run.best[name].flatten() for name in names]) for run in (packed, single))
        assert (mine - own).norm() <= 1e-5 * own.norm(), kind


@pytest.mark.integration
def test_four_trials_of_different_sizes_and_rates_give_what_they_give_alone(backbone, task):
    """One joins late, one leaves early; without dropout, in fp32."""
    configs = [
        config(adapter_size=8, learning_rate=3e-5, epochs=3),
        config(adapter_size=16, learning_rate=3e-3, epochs=2, weight_decay=0.1),
        config(adapter_size=64, learning_rate=1e-3, epochs=4, seed=3),
    ]
    late = [config(adapter_size=256, learning_rate=3e-4, epochs=3, batch_size=5)]
    packed = together(backbone, task, configs, late=late, leaves=2)
    for own, one in zip(packed, [*configs, *late], strict=True):
        if own is packed[2]:
            assert len(own.epochs) == 1  # it left after nine of twenty steps
            continue
        assert_same(own, alone(backbone, task, one))


@pytest.mark.integration
@pytest.mark.parametrize("size", [1, 2, 3])
def test_trials_that_all_have_few_units_share_a_pack(backbone, task, size):
    """Rows of their matrices are shorter than the 16 bytes that a grouped product needs."""
    configs = [config(adapter_size=size, epochs=1, seed=seed) for seed in (0, 1)]
    for found in together(backbone, task, configs):
        assert_same(found, alone(backbone, task, found.config))


def test_who_left_in_the_middle_of_an_epoch_goes_on_elsewhere_as_if_nothing_had_been(backbone, task):
    mine, other = config(seed=1, dropout=0.2), config(seed=2, adapter_size=8)
    training = together(backbone, task, [mine, other], leaves=0)[0]
    pack = new_pack(backbone)
    training.move_to(pack)
    list(training.run())
    assert_same(training, alone(backbone, task, mine))


def test_a_training_in_the_middle_of_an_epoch_has_no_state(backbone, task):
    training = together(backbone, task, [config(seed=1), config(seed=2)], leaves=0)[0]
    with pytest.raises(ValueError, match="stands within epoch 2: it has no state"):
        training.state()


@pytest.mark.integration
@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_every_architecture_can_be_packed_with_its_own_dropout(model_type):
    backbone, task = tiny_backbone(model_type), toy_task(rows=24, validation_rows=8)
    own = {"adapter_size": 4, "dropout": None, "learning_rate": 3e-4}
    configs = [config(**own), config(**own | {"adapter_size": 8, "dropout": 0.3, "seed": 1})]
    for packed, one in zip(together(backbone, task, configs), configs, strict=True):
        assert_same(packed, alone(backbone, task, one))


@pytest.mark.integration
def test_trials_of_different_tasks_share_a_pack(backbone, task):
    tasks = [task, toy_task("regression", rows=24, validation_rows=8), toy_task(pairs=True, rows=24, seed=3)]
    pack = new_pack(backbone)
    trainings = [Training(backbone, one, config(), pack=pack) for one in tasks]
    while not all(one.finished for one in trainings):
        pack.step()
    for packed, one in zip(trainings, tasks, strict=True):
        assert_same(packed, alone(backbone, one, config()))


def test_a_span_task_shares_a_pack_with_a_classification(backbone, task):
    """What adds the same to all tokens' logits changes no softmax over tokens: its gradient is zero."""
    spans = encode_task(toy_spans(rows=24, validation_rows=8), backbone, MAX_TOKENS)
    pack = new_pack(backbone)
    trainings = [Training(backbone, one, config(), pack=pack) for one in (task, spans)]
    while not all(one.finished for one in trainings):
        pack.step()
    assert_same(trainings[0], alone(backbone, task, config()))
    without_effect = ("head.bias", "norm.encoder.layer.1.output.LayerNorm.bias")
    assert set(without_effect) <= trainings[1].best.keys()
    assert_same(trainings[1], alone(backbone, spans, config()), but=without_effect)


@pytest.mark.integration
def test_trials_that_train_from_different_layers_up_share_a_pack(backbone, task):
    configs = [config(), config(first_layer=1, dropout=0.2), config(adapter_places="attention")]
    for packed, one in zip(together(backbone, task, configs), configs, strict=True):
        assert_same(packed, alone(backbone, task, one))


@pytest.mark.integration
@pytest.mark.parametrize("model_type", ["bert", "deberta-v2"])
def test_a_trial_that_diverges_leaves_its_neighbours_untouched(model_type, task):
    backbone = tiny_backbone(model_type)
    wild, calm = config(learning_rate=1e30), config()
    pack = new_pack(backbone)
    bad, good = (Training(backbone, task, one, pack=pack) for one in (wild, calm))
    while not good.finished:
        pack.step()
    assert isinstance(bad.failure, TrialDiverged)
    assert "learning_rate=1e+30" in str(bad.failure)
    assert pack.members == [good]
    assert_same(good, alone(backbone, task, calm))


def test_a_pack_goes_by_kernels_only_where_that_is_asked_for(backbone, monkeypatch):
    monkeypatch.setattr(pack_module, "has_kernels", lambda _: True)
    plain, fused = (
        Pack(backbone, pooling="cls", precision="fp32", **how).fused for how in ({}, {"fused": True})
    )
    assert (plain, fused) == (False, True)


def finish_one_by_one(pack, first, second):
    pack.leave(second)
    while not first.finished:
        pack.step()
    pack.leave(first)
    pack.join(second)
    while not second.finished:
        pack.step()


def test_a_pack_that_is_put_down_keeps_no_model(backbone, task):
    pack = new_pack(backbone)
    for seed in (1, 2):
        Training(backbone, task, config(seed=seed), pack=pack)
    pack.step()
    model = weakref.ref(pack.model)
    pack.put_down()
    assert model() is None  # two of them may not fit a GPU


def test_a_pack_that_records_nothing_keeps_nothing_of_its_batches(backbone, task):
    pack = new_pack(backbone)
    for seed in (1, 2):
        Training(backbone, task, config(seed=seed), pack=pack)
    pack.step()
    before = len(pack._recorder._seen)
    for _ in range(3):
        pack.step()
    assert len(pack._recorder._seen) == before


def test_when_memory_runs_out_the_step_is_taken_again_with_fewer(backbone, task, monkeypatch):
    configs = [config(seed=1), config(seed=2)]
    pack = new_pack(backbone)
    first, second = (Training(backbone, task, one, pack=pack) for one in configs)
    pack.step()
    encode = pack.model.encode

    def full(*batch):
        encoded = encode(*batch)
        if len(pack.members) > 1:
            raise torch.OutOfMemoryError("as a GPU says it")
        return encoded

    monkeypatch.setattr(pack.model, "encode", full)
    with pytest.raises(torch.OutOfMemoryError):
        pack.step()
    finish_one_by_one(pack, first, second)
    for own, one in zip((first, second), configs, strict=True):
        assert_same(own, alone(backbone, task, one))


def test_when_memory_does_not_suffice_to_validate_that_is_done_again_with_fewer(backbone, task, monkeypatch):
    configs = [config(seed=1), config(seed=2)]
    pack = new_pack(backbone)
    first, second = (Training(backbone, task, one, pack=pack) for one in configs)
    evaluate = pack.evaluate

    def full(members):
        if len(members) > 1:
            raise torch.OutOfMemoryError("as a GPU says it")
        return evaluate(members)

    monkeypatch.setattr(pack, "evaluate", full)
    for _ in range(4):
        pack.step()
    with pytest.raises(torch.OutOfMemoryError):
        pack.step()
    finish_one_by_one(pack, first, second)
    for own, one in zip((first, second), configs, strict=True):
        assert_same(own, alone(backbone, task, one))


def test_a_pass_that_cannot_be_recorded_is_computed_as_it_comes(backbone, task, monkeypatch, logged):
    def refuse(*_):
        raise torch.OutOfMemoryError("as a GPU says it")

    monkeypatch.setattr(recorded, "_Recording", refuse)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(pack_module, "Recorder", partial(always_recording, recorded.Recorder))
    configs = [config(seed=1), config(seed=2)]
    pack = new_pack(backbone)
    trainings = [Training(backbone, task, one, pack=pack) for one in configs]
    while not all(one.finished for one in trainings):
        pack.step()
    for own, one in zip(trainings, configs, strict=True):
        assert_same(own, alone(backbone, task, one))
    assert "not recorded any more" in "\n".join(logged)


@pytest.mark.parametrize(
    ("method", "model_type", "fused"),
    [
        ("adapter", "bert", True),
        ("layer_norm", "bert", True),
        ("adapter", "albert", False),
        ("fine_tune", "bert", False),
    ],
)
def test_a_trial_alone_goes_by_kernels_where_its_encoder_and_method_can(
    task, monkeypatch, method, model_type, fused
):
    monkeypatch.setattr(pack_module, "has_kernels", lambda _: True)
    one = Training(tiny_backbone(model_type), task, config(method=method), precision="fp32", fused=True)
    assert one.pack.fused is fused
    assert not Training(one.pack.backbone, task, config(method=method), precision="fp32").pack.fused


def test_a_pack_whose_kernels_fail_goes_on_without_them(backbone, task, monkeypatch, logged):
    """No compiler on the machine, no room for a kernel, no driver for it."""

    def refuse(parts, *, fused, room, **others):
        if fused:
            raise RuntimeError("Failed to find C compiler")
        return flat_cargo(parts, fused=False, **others)

    flat_cargo = pack_module.flat_cargo
    monkeypatch.setattr(pack_module, "has_kernels", lambda _: True)
    monkeypatch.setattr(pack_module, "flat_cargo", refuse)
    configs = [config(seed=1), config(seed=2)]
    pack = new_pack(backbone, fused=True)
    trainings = [Training(backbone, task, one, pack=pack) for one in configs]
    pack.step()
    assert not pack.fused
    while not all(one.finished for one in trainings):
        pack.step()
    for own, one in zip(trainings, configs, strict=True):
        assert_same(own, alone(backbone, task, one))
    (said,) = logged
    assert "go on without compiled kernels, slower: RuntimeError: Failed to find C compiler" in said


def test_a_failure_that_is_not_the_kernels_is_raised(backbone, task, monkeypatch):
    monkeypatch.setattr(pack_module, "has_kernels", lambda _: True)
    monkeypatch.setattr(pack_module, "flat_cargo", lambda *_, **__: 1 / 0)
    pack = new_pack(backbone, fused=True)
    for seed in (1, 2):
        Training(backbone, task, config(seed=seed), pack=pack)
    with pytest.raises(ZeroDivisionError):
        pack.step()


def always_recording(recorder, model, precision, *, records):
    assert not records  # on a CPU
    made = recorder(model, precision, records=True)
    made._seen = Everything()
    return made


class Everything(set):
    def __contains__(self, _):
        return True


def test_only_trials_of_one_kind_share_a_pack(backbone, task):
    pack = new_pack(backbone)
    Training(backbone, task, config(), pack=pack)
    for changes in ({"activation": "relu"}, {"method": "layer_norm"}, {"adapter_placement": "parallel"}):
        assert not pack.accepts(Occupant(config(**changes), 2))
    assert pack.accepts(Occupant(config(adapter_size=3, seed=4, dropout=0.5), 5))


@pytest.mark.parametrize("method", ["fine_tune", "top_layers"])
def test_whole_weights_train_alone(backbone, task, method):
    pack = new_pack(backbone)
    Training(backbone, task, config(method=method), pack=pack)
    assert not pack.accepts(Occupant(config(method=method), 2))


def test_padding_stays_zero(backbone, task):
    pack = new_pack(backbone)
    for size in (2, 8):
        Training(backbone, task, config(adapter_size=size, weight_decay=0.1), pack=pack)
    for _ in range(6):
        pack.step()
    down = pack.model.bank.parameters["adapter.0.attention.down.weight"]
    assert down.shape == (2, 8, 32)
    assert not down[0, 2:].any()
    assert down[0, :2].all()


def test_a_pack_of_one_is_the_single_trial_bit_for_bit(backbone, task):
    one = config(dropout=0.1)
    pack = new_pack(backbone)
    packed, single = Training(backbone, task, one, pack=pack), alone(backbone, task, one)
    list(packed.run())
    timeless = [
        [dataclasses.replace(epoch, seconds=0, finished_at=0) for epoch in run.epochs]
        for run in (packed, single)
    ]
    assert timeless[0] == timeless[1]
    assert all(np.array_equal(packed.best[name], own) for name, own in single.best.items())
