import pytest

from spaces import FieldError, Space, preset, presets
from spaces.presets import register

GLUE_RATES, FURTHER_RATES = [3e-5, 3e-4, 3e-3], [1e-5, 3e-5, 1e-4, 3e-3]
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


def test_every_preset_but_the_defaults_is_the_paper_s():
    ours = {name for name in presets() if name.startswith("default")}
    assert {*presets()} == {*PAPER, *ours}


def test_glue_is_18_configurations():
    assert preset("glue").size == 18


def test_default_spans_the_glue_sweep():
    for point in preset("glue").points():
        assert preset("default").contains(point)


def test_default_compares_runs_of_few_lengths():
    assert preset("default").to_dict()["epochs"] == [3, 10, 20]


@pytest.mark.parametrize("name", presets())
def test_a_preset_cites_the_paper(name):
    assert "§" in presets()[name].description
    assert presets()[name].space == preset(name)


def test_an_unknown_preset_is_refused_with_the_nearest_one():
    with pytest.raises(FieldError) as caught:
        preset("gleu")
    assert str(caught.value).startswith("space = 'gleu': unknown preset. Did you mean 'glue'? Known: default")


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="preset 'glue' is registered twice; rename one of them"):
        register("glue", "again", preset("glue"))
