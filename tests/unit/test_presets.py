import pytest

from spaces import FieldError, Space, preset, presets
from spaces.presets import register


def test_glue_is_the_sweep_of_the_papers_section_3_2():
    assert preset("glue") == Space.parse(
        {"adapter_size": [8, 64, 256], "learning_rate": [3e-5, 3e-4, 3e-3], "epochs": [3, 20]}
    )
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
    expected = "space = 'gleu': unknown preset. Did you mean 'glue'? Known: default, glue."
    assert str(caught.value) == expected


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="preset 'glue' is registered twice; rename one of them"):
        register("glue", "again", preset("glue"))
