import copy
import math

import pytest
import torch
from tiny import LAYERS, D, clone_backbone, tiny_backbone, tiny_tokenizer
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import BertConfig, BertModel

from pipelines.config import TrainConfig
from pipelines.encoder.architectures import ARCHITECTURES
from pipelines.encoder.backbone import Backbone
from pipelines.encoder.batches import Batch, step_key
from pipelines.method import METHODS
from pipelines.packs.bank import is_decayed
from pipelines.packs.dropout import SeededDropout
from pipelines.packs.model import build_model
from pipelines.packs.trained import count_trained, trained_shapes

EVERY = sorted(ARCHITECTURES)
WITH_POOLER = ("albert", "bert", "mpnet", "roberta", "xlm-roberta")
POOLINGS = [(model_type, pooling) for model_type in EVERY for pooling in ("cls", "mean")]
POOLINGS += [(model_type, "pooler") for model_type in WITH_POOLER]
BATCH = Batch(
    input_ids=torch.tensor([[2, 99, 120, 150, 3], [2, 30, 3, 0, 0]]),
    attention_mask=torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    token_type_ids=None,
)


def bert_on_meta(*, layers, d, heads):
    """BERT as published, without memory for its weights."""
    config = BertConfig(
        num_hidden_layers=layers, hidden_size=d, num_attention_heads=heads, intermediate_size=4 * d
    )
    with torch.device("meta"):
        model = BertModel(config).requires_grad_(False)
    return Backbone(
        name="bert",
        model=model,
        tokenizer=None,
        architecture=ARCHITECTURES["bert"],
        has_pooler=True,
        fingerprint="",
    )


@pytest.fixture(scope="module")
def bert_base():
    return bert_on_meta(layers=12, d=768, heads=12)


@pytest.fixture(scope="module")
def bert_large():
    return bert_on_meta(layers=24, d=1024, heads=16)


def config(**changes):
    return TrainConfig(**{"adapter_size": 8, **changes})


def build(backbone, *, outputs=2, pooling="auto", **changes):
    return build_model(backbone, config(**changes), outputs=outputs, pooling=backbone.pooling(pooling))


def count(backbone, *, outputs=2, **changes):
    return count_trained(backbone, config(**changes), outputs=outputs)


def size_of(model):
    return sum(p.numel() for p in model.trained().values())


def outputs_of(model):
    with torch.no_grad():
        return model.eval()(BATCH)[0]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("m", [8, 64, 256])
def test_bert_base_trains_24_adapters_all_norms_and_the_head(bert_base, m, outputs):
    d = 768
    adapters = 24 * (2 * m * d + d + m)
    norms = 25 * 2 * d
    head = d * outputs + outputs
    assert count(bert_base, adapter_size=m, outputs=outputs) == adapters + norms + head


@pytest.mark.parametrize("m", [8, 64, 256])
def test_bert_large_trains_48_adapters_all_norms_and_the_head(bert_large, m):
    d = 1024
    expected = 48 * (2 * m * d + d + m) + 49 * 2 * d + (2 * d + 2)
    assert count(bert_large, adapter_size=m) == expected


def test_the_norms_of_bert_base_are_the_papers_40k(bert_base):
    """§3.4: "training the layer normalization parameters alone [...] only 40k for BERT_BASE"."""
    shapes = trained_shapes(bert_base, config(), outputs=2)
    norms = [math.prod(shape) for name, shape in shapes.items() if name.startswith("norm.")]
    assert len(norms) == 50
    assert sum(norms) == 38_400


def test_at_size_64_the_papers_share_of_bert_large_trains(bert_large):
    """Table 1: adapters of size 64 train 2.1 % of the parameters of a 330M network."""
    share = count(bert_large, adapter_size=64) / 330e6
    assert share == pytest.approx(0.021, abs=0.0015)


@pytest.mark.parametrize("model_type", EVERY)
def test_exactly_adapters_norms_and_head_have_gradients(model_type):
    backbone = tiny_backbone(model_type)
    model = build(backbone)
    expected = {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in model.bank.parameters.values()} >= expected
    assert model.trained().keys() == model.bank.parameters.keys()

    norms = [m for m in backbone.model.modules() if isinstance(m, nn.LayerNorm)]
    pairs = 1 if ARCHITECTURES[model_type].shared_layers else LAYERS
    by_hand = 2 * pairs * (2 * 8 * D + D + 8) + sum(p.numel() for m in norms for p in m.parameters())
    assert size_of(model) == by_hand + 2 * D + 2


def test_trained_names_say_what_they_are():
    names = list(build(tiny_backbone()).trained())
    adapters = [
        f"adapter.{layer}.{place}.{half}.{kind}"
        for layer in range(LAYERS)
        for place in ("attention", "feed_forward")
        for half in ("down", "up")
        for kind in ("weight", "bias")
    ]
    norms = [
        f"norm.{path}.{kind}"
        for path in (
            "embeddings.LayerNorm",
            "encoder.layer.0.attention.output.LayerNorm",
            "encoder.layer.0.output.LayerNorm",
            "encoder.layer.1.attention.output.LayerNorm",
            "encoder.layer.1.output.LayerNorm",
        )
        for kind in ("weight", "bias")
    ]
    assert sorted(names) == sorted([*adapters, *norms, "head.weight", "head.bias"])


def test_the_pooler_stays_frozen():
    model = build(tiny_backbone(), pooling="pooler")
    model(BATCH)[0].sum().backward()
    assert not model.encoder.pooler.dense.weight.requires_grad
    assert model.encoder.pooler.dense.weight.grad is None
    assert not any("pooler" in name for name in model.trained())


@pytest.mark.parametrize("model_type", EVERY)
def test_every_trained_parameter_gets_a_gradient(model_type):
    backbone = tiny_backbone(model_type)
    model = build(backbone)
    model.train()
    model(BATCH)[0].square().sum().backward()
    without = {name for name, gradient in model.gradients().items() if not gradient.any()}
    assert not without


@pytest.mark.parametrize("model_type", EVERY)
def test_frozen_tensors_are_the_backbones_own_and_norms_are_copies(model_type):
    backbone = tiny_backbone(model_type)
    model = build(backbone)
    theirs = {p.data_ptr(): name for name, p in backbone.model.named_parameters()}
    frozen = {p.data_ptr() for p in model.encoder.parameters() if not p.requires_grad}
    norms = {
        p.data_ptr() for m in backbone.model.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()
    }
    assert frozen == set(theirs) - norms
    assert not {p.data_ptr() for p in model.trained().values()} & set(theirs)
    for name, own in model.trained().items():
        if name.startswith("norm."):
            assert torch.equal(own, backbone.model.get_parameter(name.removeprefix("norm.")))


def test_building_a_model_leaves_the_backbone_as_it_was():
    backbone = tiny_backbone()
    before = clone_backbone(backbone)
    modules = [name for name, _ in backbone.model.named_modules()]
    model = build(backbone, dropout=0.5)
    with torch.no_grad():
        for parameter in model.trained().values():
            parameter.add_(1.0)
    assert [name for name, _ in backbone.model.named_modules()] == modules
    for (name, now), then in zip(backbone.model.named_parameters(), before.model.parameters(), strict=True):
        assert torch.equal(now, then), name
        assert not now.requires_grad
    assert not backbone.model.training
    assert {m.p for m in backbone.model.modules() if isinstance(m, nn.Dropout)} == {0.1}


def test_two_models_of_one_backbone_share_no_trained_parameter():
    backbone = tiny_backbone()
    first, second = build(backbone), build(backbone)
    expected = outputs_of(second)
    with torch.no_grad():
        for parameter in first.trained().values():
            parameter.add_(1.0)
    assert torch.equal(outputs_of(second), expected)
    assert not torch.equal(outputs_of(first), expected)


def head_of(model, pooled):
    own = model.trained()
    return nn.functional.linear(pooled, own["head.weight"], own["head.bias"])


@pytest.mark.parametrize(("model_type", "pooling"), POOLINGS)
def test_the_head_starts_on_nearly_the_backbones_own_pooled_output(model_type, pooling):
    """Adapters start near the identity. The reference is the plain encoder, pooled by hand."""
    backbone = tiny_backbone(model_type)
    with torch.no_grad():
        plain = backbone.model(input_ids=BATCH.input_ids, attention_mask=BATCH.attention_mask)
    hidden = plain.last_hidden_state
    pooled = {
        "pooler": lambda: plain.pooler_output,
        "cls": lambda: hidden[:, 0],
        "mean": lambda: torch.stack([hidden[0].mean(0), hidden[1, :3].mean(0)]),
    }[pooling]()

    near = build(backbone, pooling=pooling)
    assert (outputs_of(near) - head_of(near, pooled)).norm() < 0.05 * head_of(near, pooled).norm()
    exact = build(backbone, pooling=pooling, init_std=1e-12)
    torch.testing.assert_close(outputs_of(exact), head_of(exact, pooled))


@pytest.mark.parametrize(("model_type", "pooling"), POOLINGS)
def test_padding_changes_no_output(model_type, pooling):
    backbone = tiny_backbone(model_type)
    model = build(backbone, pooling=pooling).eval()
    short = Batch(BATCH.input_ids[1:, :3], BATCH.attention_mask[1:, :3], None)
    with torch.no_grad():
        torch.testing.assert_close(model(BATCH)[0][1:], model(short)[0], rtol=1e-4, atol=1e-5)


BIG = Batch(
    *(one.repeat_interleave(40, 0).repeat(1, 4) for one in (BATCH.input_ids, BATCH.attention_mask)), None
)


class TorchsOwn(TorchFunctionMode):
    """Records torch's dropout wherever it would really drop: there must be none beside ours."""

    def __init__(self):
        super().__init__()
        self.used = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is nn.functional.dropout and kwargs.get("training", args[2] if len(args) > 2 else True):
            self.used.append(func)
        if func is nn.functional.scaled_dot_product_attention and kwargs.get("dropout_p"):
            self.used.append(func)
        return func(*args, **kwargs)


def dropped(model):
    """The fraction that each dropout of a training step sets to zero, by module path; one entry a call."""
    seen = []
    hooks = [
        module.register_forward_hook(
            lambda _, given, got, path=path: seen.append(
                (path, float(((got == 0) & (given[0] != 0)).sum() / (given[0] != 0).sum()))
            )
        )
        for path, module in model.named_modules()
        if isinstance(module, SeededDropout)
    ]
    model.train().masks.begin(torch.tensor([step_key(0, 1)], dtype=torch.int32))
    with TorchsOwn() as torchs, torch.no_grad():
        model(BIG)
    model.masks.begin(None)
    for hook in hooks:
        hook.remove()
    assert not torchs.used
    return seen


@pytest.mark.parametrize("own", [0.0, 0.1], ids=["no dropout of its own", "some of its own"])
@pytest.mark.parametrize("model_type", EVERY)
def test_dropout_sets_every_rate_of_the_encoder(model_type, own):
    names = {
        "distilbert": ("dropout", "attention_dropout"),
        "modernbert": ("embedding_dropout", "attention_dropout", "mlp_dropout"),
    }.get(model_type, ("hidden_dropout_prob", "attention_probs_dropout_prob"))
    model = build(tiny_backbone(model_type, **dict.fromkeys(names, own)), dropout=0.3, pooling="mean")
    fractions = dropped(model)
    assert all(0.25 < fraction < 0.35 for _, fraction in fractions)
    # After the embeddings, in attention and after each branch, but ALBERT's feed-forward and DistilBERT's
    # attention have none there.
    branches = 1 if model_type in {"albert", "distilbert"} else 2
    assert len(fractions) >= 1 + (1 + branches) * LAYERS


@pytest.mark.parametrize("first_layer", [0, 1])
def test_without_a_dropout_the_backbones_own_stays_from_the_first_trained_layer_up(first_layer):
    fractions = dropped(build(tiny_backbone(), first_layer=first_layer, pooling="mean"))
    for path, fraction in fractions:
        trains = first_layer == 0 or "layer.1" in path or "pooler" in path
        assert (0.07 < fraction < 0.13) if trains else fraction == 0
    assert len(fractions) == 1 + 3 * LAYERS - first_layer  # inactive attention is torch's fused one


def test_dropout_zero_makes_training_deterministic():
    model = build(tiny_backbone(), dropout=0.0).train()
    with torch.no_grad():
        assert torch.equal(model(BATCH)[0], outputs_of(model))


def test_init_std_is_that_of_every_adapter():
    model = build(tiny_backbone(), adapter_size=64, init_std=0.1)
    cut_std = 0.1 * math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))
    adapters = {name: p for name, p in model.trained().items() if name.startswith("adapter.")}
    for name, parameter in adapters.items():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            assert parameter.std().item() == pytest.approx(cut_std, rel=0.1)
            assert parameter.abs().max() <= 0.2


def test_no_two_adapters_start_alike():
    model = build(tiny_backbone())
    downs = [p for name, p in model.trained().items() if name.endswith("down.weight")]
    assert not any(torch.equal(a, b) for i, a in enumerate(downs) for b in downs[:i])


def test_the_same_seed_gives_the_same_weights_and_another_others():
    backbone = tiny_backbone()
    first, again, other = (build(backbone, seed=seed).trained() for seed in (1, 1, 2))
    for name, parameter in first.items():
        assert torch.equal(parameter, again[name])
        if name.endswith("weight") and not name.startswith("norm."):
            assert not torch.equal(parameter, other[name])


def test_weights_do_not_depend_on_torchs_global_seed():
    backbone = tiny_backbone()
    built = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        built.append(build(backbone).trained())
    assert all(torch.equal(built[0][name], built[1][name]) for name in built[0])


def test_decay_is_for_weight_matrices_alone():
    """As in the authors' code: no decay on biases and layer norms."""
    names = build(tiny_backbone()).trained()
    decayed = {name for name in names if is_decayed(name)}
    assert decayed == {
        name for name in names if name.endswith(("down.weight", "up.weight")) or name == "head.weight"
    }


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"method = 'laura': unknown method\. Known: ") as caught:
        build(tiny_backbone(), method="laura")
    assert all(repr(name) in str(caught.value) for name in METHODS)


@pytest.mark.parametrize("model_type", EVERY)
def test_segments_reach_only_encoders_that_know_them(model_type):
    """A BERT tokenizer tells segments whatever the encoder is."""
    backbone = tiny_backbone(model_type)
    model = build(backbone).eval()
    segments = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])
    with torch.no_grad():
        told = model(Batch(BATCH.input_ids, BATCH.attention_mask, segments))[0]
        untold = model(BATCH)[0]
    assert torch.equal(told, untold) == (getattr(backbone.model.config, "type_vocab_size", 0) < 2)


def test_a_models_frozen_half_can_be_dropped_from_a_copy_of_the_trained_one():
    """What a bundle holds is enough: trained parameters put into a fresh model give the same outputs."""
    backbone = tiny_backbone()
    model = build(backbone, seed=1)
    with torch.no_grad():
        for parameter in model.trained().values():
            parameter.add_(0.1)
    saved = copy.deepcopy({name: p.data for name, p in model.trained().items()})
    fresh = build(backbone, seed=2)
    with torch.no_grad():
        for name, parameter in fresh.trained().items():
            parameter.copy_(saved[name])
    assert torch.equal(outputs_of(fresh), outputs_of(model))


def test_the_tiny_tokenizer_and_encoder_fit_each_other():
    backbone = tiny_backbone()
    assert len(tiny_tokenizer()) == backbone.model.config.vocab_size
