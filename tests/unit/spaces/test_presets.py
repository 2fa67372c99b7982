import pytest

from spaces import FieldError, Space, preset, presets
from spaces.presets import register

GLUE_RATES, FURTHER_RATES = [3e-5, 3e-4, 3e-3], [1e-5, 3e-5, 1e-4, 3e-3]
ACTIVATIONS = ["relu", "relu6", "leaky_relu", "swish", "sigmoid", "tanh"]
RATES, PENALTIES = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5], [0.0, 1e-4, 1e-3, 1e-2]
POWERS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
AT_LARGE = {"low": 2e-5, "high": 1e-3, "log": True}
PAPER = {  # preset: method, and the sets of Houlsby et al. 2019, §3.2 to §3.6 and appendix B
    "glue": (
        "adapter",
        {"adapter_size": [8, 64, 256], "learning_rate": GLUE_RATES, "epochs": [3, 20]},
    ),
    "glue_64": ("adapter", {"adapter_size": [64], "learning_rate": GLUE_RATES, "epochs": [3, 20]}),
    "further": (
        "adapter",
        {
            "adapter_size": [2, 4, 8, 16, 32, 64],
            "learning_rate": FURTHER_RATES,
            "epochs": [20, 50, 100],
        },
    ),
    "further_fine_tune": ("fine_tune", {"learning_rate": FURTHER_RATES, "epochs": [20, 50, 100]}),
    "further_top_layers": (
        "top_layers",
        {
            "top_layers": [1, 2, 3, 5, 7, 9, 11, 12],
            "learning_rate": FURTHER_RATES,
            "epochs": [20, 50, 100],
        },
    ),
    "tradeoff_top_layers": ("top_layers", {"top_layers": [*range(1, 13)], "learning_rate": GLUE_RATES}),
    "squad_top_layers": (
        "top_layers",
        {"top_layers": [*range(1, 13)], "learning_rate": [3e-5, 5e-5, 1e-4], "epochs": [2, 3, 5]},
    ),
    "tradeoff": ("adapter", {"adapter_size": POWERS, "learning_rate": GLUE_RATES}),
    "tradeoff_layer_norm": ("layer_norm", {"learning_rate": GLUE_RATES}),
    "squad": (
        "adapter",
        {"adapter_size": POWERS, "learning_rate": [3e-5, 1e-4, 3e-4, 1e-3], "epochs": [3, 10, 20]},
    ),
    "squad_fine_tune": ("fine_tune", {"learning_rate": [3e-5, 5e-5, 1e-4], "epochs": [2, 3, 5]}),
    "init": ("adapter", {"adapter_size": [64], "init_std": {"low": 1e-7, "high": 1.0, "log": True}}),
    "learning_rate": (
        "adapter",
        {"adapter_size": [8, 64, 256], "learning_rate": AT_LARGE, "epochs": [3, 20]},
    ),
    "learning_rate_fine_tune": ("fine_tune", {"learning_rate": AT_LARGE, "epochs": [3, 20]}),
}


@pytest.mark.parametrize(("name", "expected"), PAPER.items())
def test_a_preset_has_the_sets_of_the_paper(name, expected):
    method, space = expected
    assert presets()[name].method == method
    assert preset(name).to_dict() == Space.parse(space).to_dict() == space


NO_BERT = {  # Table 5, in its order; of Table 6's modules our encoders have none
    "embedding": ["token_table", "sentence"],
    "fine_tune_embedding": [True, False],
    "lowercase": [True, False],
    "strip_non_alphanumerics": [True, False],
    "convolution": [True, False],
    "convolution_activation": ACTIVATIONS,
    "convolution_batch_norm": [True, False],
    "convolution_ngram": [2, 3],
    "convolution_dropout": {"low": 0.0, "high": 0.4, "log": False},
    "convolution_filters": {"low": 50, "high": 200, "log": False},
    "embedding_dropout": {"low": 0.0, "high": 0.4, "log": False},
    "hidden_layers": [0, 1, 2, 3, 5],
    "hidden_size": [64, 128, 256],
    "hidden_activation": ACTIVATIONS,
    "hidden_norm": ["none", "batch", "layer"],
    "hidden_dropout": [0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5],
    "deep_learning_rate": RATES,
    "deep_regularisation": PENALTIES,
    "wide_learning_rate": RATES,
    "wide_regularisation": PENALTIES,
    "training_samples": [100_000, 200_000, 500_000, 1_000_000, 2_000_000],
}


def bare(written):
    """A parameter without its condition."""
    if isinstance(written, dict):
        return written.get("values", {key: value for key, value in written.items() if key != "when"})
    return written


def test_no_bert_has_the_21_parameters_of_table_5():
    space = preset("no_bert").to_dict()
    assert len(NO_BERT) == 21
    assert {name: bare(written) for name, written in space.items()} == NO_BERT
    assert [*space] == [*NO_BERT]
    assert presets()["no_bert"].method == "embeddings"


@pytest.mark.parametrize(
    ("params", "gone"),
    [
        ({"embedding": "sentence"}, {"fine_tune_embedding", "convolution", "convolution_ngram"}),
        ({"embedding": "token_table", "convolution": False}, {"convolution_filters", "embedding_dropout"}),
        ({"hidden_layers": 0}, {"hidden_size", "hidden_activation", "hidden_norm", "hidden_dropout"}),
    ],
)
def test_what_a_convolution_or_a_hidden_layer_has_exists_with_one(params, gone):
    space = preset("no_bert")
    assert not any(space.exists(name, params) for name in gone)
    whole = {"embedding": "token_table", "convolution": True, "hidden_layers": 1}
    assert all(space.exists(name, whole) for name in NO_BERT)


def test_the_default_of_embeddings_is_a_part_of_no_bert():
    for name, written in preset("default_embeddings").to_dict().items():
        assert {*bare(written)} <= {*NO_BERT[name]}


def test_every_preset_that_cites_the_paper_is_compared_with_it_or_a_default():
    cited = {name for name, made in presets().items() if "§" in made.description}
    ours = {name for name in presets() if name.startswith("default")}
    assert cited - ours == {*PAPER, "no_bert"}


def test_glue_is_18_configurations():
    assert preset("glue").size == 18


def test_default_spans_the_glue_sweep():
    for point in preset("glue").points():
        assert preset("default").contains(point)


def test_default_compares_runs_of_few_lengths():
    assert preset("default").to_dict()["epochs"] == [3, 10, 20]


@pytest.mark.parametrize("name", [*PAPER, "no_bert", "default"])
def test_a_preset_of_the_paper_cites_its_section(name):
    assert "§" in presets()[name].description


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_found_by_its_name_and_described(name):
    assert presets()[name].space == preset(name)
    assert presets()[name].description


def test_an_unknown_preset_is_refused_with_the_nearest_one():
    with pytest.raises(FieldError) as caught:
        preset("gleu")
    assert str(caught.value).startswith("space = 'gleu': unknown preset. Did you mean 'glue'? Known: default")


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="preset 'glue' is registered twice; rename one of them"):
        register("glue", "again", preset("glue"))
