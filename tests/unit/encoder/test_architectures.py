"""Each entry of the table, against a tiny random model and what its forward pass really computes."""

import pytest
import torch
from tiny import LAYERS, D, tiny_backbone, tiny_model
from torch import nn

from pipelines.encoder.architectures import ARCHITECTURES, Site, adapter_sites, layer_paths, norm_paths
from pipelines.encoder.backbone import read_config
from pipelines.errors import InputError

EVERY = sorted(ARCHITECTURES)
NINE = {
    "albert",
    "bert",
    "deberta-v2",
    "distilbert",
    "electra",
    "modernbert",
    "mpnet",
    "roberta",
    "xlm-roberta",
}
IDS = torch.tensor([[2, 99, 120, 150, 3], [2, 30, 31, 3, 0]])
MASK = (IDS != 0).long()


def distinct_layers(model_type):
    return 1 if ARCHITECTURES[model_type].shared_layers else LAYERS


def run(model):
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=MASK).last_hidden_state


class Add(nn.Module):
    """Stands for an adapter: what it adds is the same whatever it is given."""

    def __init__(self, change):
        super().__init__()
        self.change = change
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return x + self.change


def with_adapter(model, path):
    adapter = Add(torch.randn(D, generator=torch.Generator().manual_seed(5)))
    model.set_submodule(path, nn.Sequential(model.get_submodule(path), adapter))
    return adapter


def inputs_of(model, path):
    """Every input that a module gets, first call first."""
    seen = []
    model.get_submodule(path).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    return seen


def test_the_table_has_the_nine_architectures():
    assert {*ARCHITECTURES} >= NINE


@pytest.mark.parametrize("model_type", EVERY)
def test_every_layer_norm_is_listed_and_nothing_else(model_type):
    model = tiny_model(model_type)
    norms = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm) and any(True for _ in module.parameters())
    ]
    listed = norm_paths(ARCHITECTURES[model_type], model)
    assert sorted(listed) == sorted(norms)
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("model_type", EVERY)
def test_no_norm_is_of_a_class_of_its_own(model_type):
    """A norm that is no nn.LayerNorm would pass the test above unseen."""
    named = {name for name, _ in tiny_model(model_type).named_modules() if "norm" in name.lower()}
    listed = set(norm_paths(ARCHITECTURES[model_type], tiny_model(model_type)))
    assert named - listed <= {"layers.0.attn_norm"}  # ModernBERT's identity


def test_a_deberta_without_convolution_has_no_norm_for_it():
    model = tiny_model("deberta-v2", conv_kernel_size=0, norm_rel_ebd="none")
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)]
    assert sorted(norm_paths(ARCHITECTURES["deberta-v2"], model)) == sorted(norms)


@pytest.mark.parametrize("model_type", EVERY)
def test_each_distinct_layer_has_two_sites(model_type):
    architecture, model = ARCHITECTURES[model_type], tiny_model(model_type)
    sites = adapter_sites(architecture, model)
    expected = [
        (layer, place)
        for layer in range(distinct_layers(model_type))
        for place in ("attention", "feed_forward")
    ]
    assert [(site.layer, site.branch) for site in sites] == expected
    assert len({site.path for site in sites}) == len(sites)
    for site in sites:
        model.get_submodule(site.path)  # raises AttributeError where there is none


def test_layers_come_in_order_beyond_nine():
    model = tiny_model("bert", num_hidden_layers=12)
    assert layer_paths(ARCHITECTURES["bert"], model) == tuple(f"encoder.layer.{i}" for i in range(12))


# Post-norm: the module that sees residual + branch right after the site. ALBERT's is called at every depth.
NEXT_NORM = {
    "albert": ("attention.LayerNorm", "full_layer_layer_norm"),
    "bert": ("attention.output.LayerNorm", "output.LayerNorm"),
    "deberta-v2": ("attention.output.LayerNorm", "output.LayerNorm"),
    "distilbert": ("sa_layer_norm", "output_layer_norm"),
    "electra": ("attention.output.LayerNorm", "output.LayerNorm"),
    "mpnet": ("attention.LayerNorm", "output.LayerNorm"),
    "roberta": ("attention.output.LayerNorm", "output.LayerNorm"),
    "xlm-roberta": ("attention.output.LayerNorm", "output.LayerNorm"),
}
# The two last linear maps of a layer's branches: what an adapter must come after.
PROJECTIONS = {
    "albert": ("attention.dense", "ffn_output"),
    "bert": ("attention.output.dense", "output.dense"),
    "deberta-v2": ("attention.output.dense", "output.dense"),
    "distilbert": ("attention.out_lin", "ffn.lin2"),
    "electra": ("attention.output.dense", "output.dense"),
    "modernbert": ("attn.Wo", "mlp.Wo"),
    "mpnet": ("attention.attn.o", "output.dense"),
    "roberta": ("attention.output.dense", "output.dense"),
    "xlm-roberta": ("attention.output.dense", "output.dense"),
}
POST_NORM_SITES = [
    (model_type, layer, place)
    for model_type in NEXT_NORM
    for layer in range(distinct_layers(model_type))
    for place in (0, 1)
]


def layer_input(model, path):
    """The hidden states that a layer gets, call by call."""
    seen = []

    def hook(_, args, kwargs):
        seen.append(args[0] if args else kwargs["hidden_states"])

    model.get_submodule(path).register_forward_pre_hook(hook, with_kwargs=True)
    return seen


@pytest.mark.parametrize(("model_type", "layer", "place"), POST_NORM_SITES)
def test_adapter_sits_between_the_branch_and_its_residual(model_type, layer, place):
    """What the next norm gets is residual + adapter output: the residual has not passed the adapter."""
    architecture, model = ARCHITECTURES[model_type], tiny_model(model_type)
    layer_path = layer_paths(architecture, model)[layer]
    adapter = with_adapter(model, adapter_sites(architecture, model)[2 * layer + place].path)
    given = layer_input(model, layer_path)
    normed = inputs_of(model, f"{layer_path}.{NEXT_NORM[model_type][place]}")
    after_attention = []
    model.get_submodule(f"{layer_path}.{NEXT_NORM[model_type][0]}").register_forward_hook(
        lambda _, __, output: after_attention.append(output)
    )
    run(model)

    calls = LAYERS if model_type == "albert" else 1
    assert len(normed) == len(adapter.seen) == len(given) == calls
    residuals = given if place == 0 else after_attention
    for norm_input, residual, branch in zip(normed, residuals, adapter.seen, strict=True):
        torch.testing.assert_close(norm_input, residual + branch + adapter.change)


@pytest.mark.parametrize(("layer", "place"), [(layer, place) for layer in range(LAYERS) for place in (0, 1)])
def test_modernbert_adapter_is_added_to_the_residual_stream_alone(layer, place):
    """Pre-norm: stream after = stream before + adapter output, nothing of the stream through the adapter."""
    model = tiny_model("modernbert")
    path = layer_paths(ARCHITECTURES["modernbert"], model)[layer]
    adapter = with_adapter(model, adapter_sites(ARCHITECTURES["modernbert"], model)[2 * layer + place].path)
    streams = {"start": layer_input(model, path), "middle": inputs_of(model, f"{path}.mlp_norm")}
    following = f"layers.{layer + 1}" if layer + 1 < LAYERS else "final_norm"
    streams["end"] = layer_input(model, following)
    run(model)

    before, after = ("start", "middle") if place == 0 else ("middle", "end")
    [branch] = adapter.seen
    torch.testing.assert_close(streams[after][0], streams[before][0] + branch + adapter.change)


@pytest.mark.parametrize("model_type", PROJECTIONS)
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_adapter_gets_the_projection_after_its_dropout(model_type, training):
    """In training, what it gets is the projection with elements dropped and the rest scaled; else itself."""
    rate = 0.25
    rates = {
        "distilbert": {"dropout": rate},
        "modernbert": {"attention_dropout": rate, "mlp_dropout": rate},
    }.get(model_type, {"hidden_dropout_prob": rate})
    architecture, model = ARCHITECTURES[model_type], tiny_model(model_type, **rates)
    layer_path = layer_paths(architecture, model)[0]
    projected = [[], []]
    for place, path in enumerate(PROJECTIONS[model_type]):
        model.get_submodule(f"{layer_path}.{path}").register_forward_hook(
            lambda _, __, output, place=place: projected[place].append(output)
        )
    adapters = [with_adapter(model, site.path) for site in adapter_sites(architecture, model)[:2]]
    model.train(training)
    torch.manual_seed(0)
    run(model)

    for place, adapter in enumerate(adapters):
        got, projection = adapter.seen[0], projected[place][0]
        # These three have no dropout of their own there.
        bare = (model_type, place) in {("albert", 1), ("distilbert", 0), ("modernbert", 1)}
        if not training or bare:
            torch.testing.assert_close(got, projection)
            continue
        kept = got != 0
        assert 0.6 < kept.float().mean() < 0.9
        torch.testing.assert_close(got[kept], projection[kept] / (1 - rate))


@pytest.mark.parametrize("model_type", EVERY)
def test_an_adapter_that_adds_nothing_changes_nothing(model_type):
    expected = run(tiny_model(model_type))
    model = tiny_model(model_type)
    for site in adapter_sites(ARCHITECTURES[model_type], model):
        with_adapter(model, site.path).change.zero_()
    assert torch.equal(run(model), expected)


def test_albert_runs_its_one_pair_at_every_depth():
    backbone = tiny_backbone("albert", num_hidden_layers=5)
    sites = adapter_sites(backbone.architecture, backbone.model)
    assert [(site.layer, site.branch) for site in sites] == [(0, "attention"), (0, "feed_forward")]
    adapters = [with_adapter(backbone.model, site.path) for site in sites]
    run(backbone.model)
    assert [len(adapter.seen) for adapter in adapters] == [5, 5]


def test_albert_with_two_groups_has_a_pair_for_each():
    model = tiny_model("albert", num_hidden_layers=4, num_hidden_groups=2)
    assert [site.layer for site in adapter_sites(ARCHITECTURES["albert"], model)] == [0, 0, 1, 1]


def test_sites_of_a_model_that_the_entry_does_not_fit_are_refused():
    with pytest.raises(LookupError, match=r"DistilBertModel has no modules named encoder\.layer\.\*"):
        adapter_sites(ARCHITECTURES["bert"], tiny_model("distilbert"))


def test_a_site_names_layer_place_and_path():
    first = adapter_sites(ARCHITECTURES["bert"], tiny_model("bert"))[0]
    assert first == Site(0, "attention", "encoder.layer.0.attention.output.dropout")


@pytest.mark.parametrize("model_type", ["gpt2", "t5"])
def test_an_unknown_architecture_is_refused_with_the_list(tmp_path, model_type):
    (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}"}}')
    with pytest.raises(InputError) as caught:
        read_config(str(tmp_path))
    assert caught.value.key == "backbone"
    assert repr(model_type) in caught.value.rule
    assert caught.value.fix == f"Supported: {', '.join(EVERY)}."
