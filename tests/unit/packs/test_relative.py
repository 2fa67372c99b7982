"""DeBERTa in a pack: each trial has its own table of relative positions, normed and dropped out as alone."""

import copy

import numpy as np
import pytest
import torch
from tiny import tiny_backbone, toy_task
from torch import nn

from pipelines.config import TrainConfig
from pipelines.encoder.batches import step_key
from pipelines.encoder.prefix import PrefixCache
from pipelines.packs.adapter import BottleneckAdapter
from pipelines.packs.batches import Part, padded_batch
from pipelines.packs.model import Occupant, PackModel
from pipelines.packs.pack import Pack
from pipelines.packs.trained import trained_parts
from pipelines.packs.training import Training

CPU = torch.device("cpu")
# tiny.py's is as DeBERTa-v3, with keys shared and positions in buckets, and has a convolution.
KINDS = {
    "as v3": {"conv_kernel_size": 0},
    "as v2-xlarge": {},
    "more buckets than tokens": {"position_buckets": 24},
    "own projections": {"share_att_key": False},
    "no buckets": {"position_buckets": -1},
    "own projections, no buckets": {"share_att_key": False, "position_buckets": -1},
    "content to position": {"share_att_key": False, "pos_att_type": ["c2p"]},
    "position to content": {"pos_att_type": ["p2c"]},
    "no norm": {"norm_rel_ebd": "none"},
    "no relative positions": {"relative_attention": False, "position_biased_input": True},
}
# The kinds that are published are tried with each change, the others in make test.
EVERY = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(one, marks=() if one in ("as v3", "as v2-xlarge") else pytest.mark.integration)
        for one in KINDS
    ],
)
NORM = "norm.encoder.LayerNorm"


def backbone_of(kind):
    return tiny_backbone("deberta-v2", **KINDS[kind])


@pytest.fixture(scope="module")
def task():
    return toy_task(rows=24, validation_rows=8)


def config(**changes):
    return TrainConfig(**{"adapter_size": 4, "learning_rate": 3e-4, "epochs": 2, "batch_size": 8, **changes})


def alone(backbone, task, one, cache=None):
    training = Training(backbone, task, one, precision="fp32", cache=cache)
    list(training.run())
    return training


def assert_same(packed, single):
    for mine, own in zip(packed.epochs, single.epochs, strict=True):
        assert mine.train_loss == pytest.approx(own.train_loss, rel=1e-5)
        assert mine.scores == pytest.approx(own.scores, abs=1e-5)
    mine, own = (torch.cat([tensor.flatten() for tensor in run.best.values()]) for run in (packed, single))
    assert packed.best.keys() == single.best.keys()
    assert (mine - own).norm() <= 1e-5 * own.norm()


def filled_model(backbone, configs):
    """Of a pack, its trained parameters at random, by place."""
    model = PackModel(backbone, [Occupant(one, 2) for one in configs], pooling="cls")
    for place, one in enumerate(configs):
        generator = torch.Generator().manual_seed(one.seed)
        with torch.no_grad():
            for tensor in model.trained(place).values():
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
    return model


def parts_of(task, count):
    """Other texts for each place, and not as many."""
    return [Part(place, task.train, np.arange(place, 5 + 2 * place)) for place in range(count)]


def outputs_of(model, backbone, parts, keys=None):
    batch, layout = padded_batch(parts, pad_id=backbone.pad_id, device=CPU)
    model.masks.begin(None if keys is None else torch.tensor(keys, dtype=torch.int32))
    return [own[: len(part.indices)] for own, part in zip(model(batch, layout), parts, strict=True)]


@EVERY
@pytest.mark.parametrize("count", [1, 3])
def test_each_place_gives_what_transformers_gives_with_its_parameters(kind, count, task):
    """The reference: the plain encoder with the norms of a place, and its adapters as plain modules."""
    backbone = backbone_of(kind)
    configs = [config(adapter_size=size, seed=size) for size in (4, 8, 2)[:count]]
    model, parts = filled_model(backbone, configs).eval(), parts_of(task, count)
    with torch.no_grad():
        found = outputs_of(model, backbone, parts)
    for place, (one, part, own) in enumerate(zip(configs, parts, found, strict=True)):
        plain, trained = copy.deepcopy(backbone.model), model.trained(place)
        for path in trained_parts(backbone, one).norms:
            for name, tensor in plain.get_submodule(path).named_parameters():
                tensor.copy_(trained[f"norm.{path}.{name}"])
        for insert in trained_parts(backbone, one).inserts:
            adapter = BottleneckAdapter(backbone.width, one.adapter_size)
            adapter.load_state_dict(
                {name: trained[f"{insert.name}.{name}"] for name, _ in adapter.named_parameters()}
            )
            plain.set_submodule(insert.path, nn.Sequential(plain.get_submodule(insert.path), adapter))
        batch, _ = padded_batch([part], pad_id=backbone.pad_id, device=CPU)
        with torch.no_grad():
            hidden = plain(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
            expected = nn.functional.linear(hidden[:, 0], trained["head.weight"], trained["head.bias"])
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:grad and param do not obey")
@EVERY
def test_gradients_with_dropout_are_each_trial_s_own(kind, task):
    backbone = backbone_of(kind)
    configs = [config(adapter_size=size, dropout=0.3, seed=size) for size in (4, 8, 2)]
    parts, keys = parts_of(task, 3), [step_key(one.seed, 5) for one in configs]
    model = filled_model(backbone, configs).train()
    sum(own.square().sum() for own in outputs_of(model, backbone, parts, keys)).backward()
    for place, (one, part) in enumerate(zip(configs, parts, strict=True)):
        single = filled_model(backbone, [one]).train()
        own = Part(0, part.tokens, part.indices)
        outputs_of(single, backbone, [own], keys[place : place + 1])[0].square().sum().backward()
        expected, found = single.gradients(), model.gradients(place)
        assert expected.keys() == found.keys()
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:grad and param do not obey")
def test_a_trial_s_loss_reaches_no_other_s_norm_of_positions(task):
    backbone = backbone_of("as v3")
    model = filled_model(backbone, [config(seed=seed, dropout=0.1) for seed in range(3)]).train()
    outputs_of(model, backbone, parts_of(task, 3), [1, 2, 3])[1].square().sum().backward()
    reached = [bool(model.gradients(place)[f"{NORM}.weight"].any()) for place in range(3)]
    assert reached == [False, True, False]


@pytest.mark.integration
@EVERY
def test_trials_join_and_leave_and_give_what_they_give_alone(kind, task):
    """Of other sizes, rates, dropouts and lowest layers, one of them with the encoder's own dropout."""
    backbone = backbone_of(kind)
    configs = [
        config(adapter_size=4, dropout=0.3),
        config(adapter_size=8, dropout=None, learning_rate=1e-3, seed=1),
        config(adapter_size=2, dropout=0.1, first_layer=1, batch_size=5, seed=2),
    ]
    pack = Pack(backbone, pooling="cls", precision="fp32")
    trainings = [Training(backbone, task, one, pack=pack) for one in configs[:2]]
    for step in range(100):
        if step == 2:
            trainings.append(Training(backbone, task, configs[2], pack=pack))
        if step == 4:
            pack.leave(trainings[0])
        if all(one.finished for one in pack.members):
            break
        pack.step()
    trainings[0].move_to(Pack(backbone, pooling="cls", precision="fp32"))
    list(trainings[0].run())
    for packed, one in zip(trainings, configs, strict=True):
        assert_same(packed, alone(backbone, task, one))


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["as v3", "as v2-xlarge"])
def test_above_known_layers_the_norm_is_frozen_and_dropout_each_trial_s_own(kind, task, tmp_path):
    backbone, cache = backbone_of(kind), PrefixCache(tmp_path, 1)
    configs = [config(first_layer=1, dropout=0.3, seed=seed, adapter_size=4 + seed) for seed in range(2)]
    pack = Pack(backbone, pooling="cls", precision="fp32", cache=cache)
    trainings = [Training(backbone, task, one, pack=pack) for one in configs]
    while not all(one.finished for one in trainings):
        pack.step()
    assert list(tmp_path.glob("*.hidden"))
    for packed, one in zip(trainings, configs, strict=True):
        assert f"{NORM}.weight" not in packed.best
        assert_same(packed, alone(backbone, task, one))


def test_no_text_has_a_copy_of_its_table(task):
    """Nothing as large as all texts' projected tables is kept for the backward pass."""
    backbone = tiny_backbone("deberta-v2", position_buckets=512, max_position_embeddings=512)
    occupants = [Occupant(config(), 2)] * 2
    model = PackModel(backbone, occupants, pooling="cls").train()
    parts = [Part(place, task.train, np.arange(16)) for place in range(2)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        outputs_of(model, backbone, parts, [1, 2])
    copies = 2 * 16 * 1024 * backbone.width  # places, texts, positions
    assert max(x.untyped_storage().nbytes() // x.element_size() for x in kept) < copies
