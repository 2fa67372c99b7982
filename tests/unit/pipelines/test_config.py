"""A trial's configuration."""

import pytest
from tiny import config

from pipelines.config import TrainConfig
from pipelines.method import find_method


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("adapter_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("epochs", 0),
        ("batch_size", 0),
        ("weight_decay", -0.1),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("init_std", 0.0),
        ("seed", -1),
    ],
)
def test_a_configuration_out_of_range_is_refused_at_birth(key, value):
    with pytest.raises(ValueError, match=f"out of range: .*{key}"):
        TrainConfig(**{key: value})


def test_the_defaults_are_the_papers():
    defaults = TrainConfig()
    assert (defaults.batch_size, defaults.init_std, defaults.adapter_size) == (32, 1e-2, 64)
    assert (defaults.learning_rate, defaults.epochs) == (3e-4, 20)


def test_a_trials_parameters_make_its_configuration():
    method = find_method("adapter")
    made = method.config({"adapter_size": 8, "epochs": 3}, seed=5)
    assert made == TrainConfig(adapter_size=8, epochs=3, seed=5)
    with pytest.raises(TypeError, match="adapter_sise"):
        method.config({"adapter_sise": 8}, seed=5)


def test_a_configuration_survives_its_dictionary():
    one = config(dropout=0.1, seed=3)
    assert TrainConfig(**one.to_dict()) == one
