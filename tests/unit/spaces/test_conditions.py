"""Spaces with parameters that exist only for some values of others; text and switches."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import epochs

from search.decisions.proposals import SAMPLERS, propose
from search.errors import JobError
from search.job.job import SearchJob
from search.record import Trial
from spaces import Space, SpaceError, space
from spaces.legal import Legal

WRITTEN = {
    "adapter_size": [8, 64],
    "dropout": [0.0, 0.1, 0.2],
    "batch_size": {"values": [16, 32], "when": {"adapter_size": 64, "dropout": {"above": 0.05}}},
    "init_std": {"values": [1e-3, 1e-2], "when": {"batch_size": [16]}},
}
CONDITIONAL = Space.parse(WRITTEN)
RANGED = Space.parse(
    {
        "adapter_size": [8, 64],
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "when": {"adapter_size": 64}},
        "epochs": [3, 10],
    }
)


def record(number, params, score):
    return Trial(number, "complete", params, tuple(epochs([score])), trained_parameters=5)


def test_the_points_of_a_conditional_space_are_the_real_ones_each_once():
    points = list(CONDITIONAL.points())
    # size 8: 3 dropouts; size 64 without dropout: 1; size 64 with two dropouts: batch 16 (2 inits) and 32.
    assert len(points) == CONDITIONAL.size == 3 + 1 + 2 * (2 + 1)
    assert len({tuple(sorted(point.items())) for point in points}) == len(points)
    assert all(CONDITIONAL.contains(point) for point in points)
    assert all(("init_std" in point) == (point.get("batch_size") == 16) for point in points)


def test_a_configuration_with_a_parameter_that_does_not_exist_is_none_of_the_space():
    assert not CONDITIONAL.contains({"adapter_size": 8, "dropout": 0.1, "batch_size": 16})
    full = {"adapter_size": 8, "dropout": 0.1, "batch_size": 16, "init_std": 1e-3}
    assert CONDITIONAL.effective(full) == {"adapter_size": 8, "dropout": 0.1}


def test_a_conditional_space_is_the_same_after_json():
    for one in (CONDITIONAL, RANGED):
        assert Space.parse(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"epochs": 3, "dropout": {"values": [0.1], "when": {"adapter_size": 8}}}, "no parameter of this"),
        ({"epochs": 3, "dropout": {"values": [0.1], "when": {"epochs": 4}}}, "epochs never has the value 4"),
        ({"epochs": 3, "dropout": {"values": [0.1], "when": {}}}, "needs parameters and their values"),
        ({"epochs": 3, "dropout": {"values": [0.1], "when": {"epochs": []}}}, "needs a value, or a list"),
        (
            {"epochs": 3, "dropout": {"values": [0.1], "when": {"epochs": {"over": 1}}}},
            "needs a number above",
        ),
        ({"epochs": 3, "dropout": {"values": [0.1], "wenn": {}}}, "Did you mean 'when'"),
        (
            {"epochs": {"low": 3, "high": 9}, "dropout": {"values": [0.1], "when": {"epochs": 4}}},
            "Use above.",
        ),
        (
            {
                "epochs": {"values": [3], "when": {"dropout": 0.1}},
                "dropout": {"values": [0.1], "when": {"epochs": 3}},
            },
            "depends on itself: epochs -> dropout -> epochs",
        ),
    ],
)
def test_a_condition_that_cannot_hold_is_refused(written, message):
    with pytest.raises(SpaceError) as caught:
        Space.parse(written)
    assert message in str(caught.value)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_proposes_real_configurations_each_once(sampler):
    trials = []
    while (params := propose(trials, CONDITIONAL, sampler=sampler, seed=1)) is not None:
        assert CONDITIONAL.contains(params)
        trials.append(record(len(trials), params, 0.5 + params.get("init_std", 0)))
    assert len({tuple(sorted(trial.params.items())) for trial in trials}) == CONDITIONAL.size


@pytest.mark.integration
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "grid"])
def test_ranges_may_be_conditional(sampler):
    trials = []
    for number in range(12):
        params = propose(trials, RANGED, sampler=sampler, seed=0)
        assert RANGED.contains(params)
        trials.append(record(number, params, params["epochs"] / 20))
    with_rate = [trial for trial in trials if "learning_rate" in trial.params]
    assert with_rate
    assert all(trial.params["adapter_size"] == 64 for trial in with_rate)


@pytest.mark.integration
@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_with_two_objectives_small_configurations_are_looked_for_too(sampler):
    trials = []
    for number in range(9):
        params = propose(trials, RANGED, sampler=sampler, seed=0, pareto=True)
        trials.append(record(number, params, 0.5))
    assert len({tuple(sorted(trial.params.items())) for trial in trials}) == 9


@given(st.integers(0, 5))
def test_what_is_not_allowed_is_never_proposed(seed):
    trials = []
    small = {"adapter_size": 8}
    while True:
        params = propose(
            trials, CONDITIONAL, sampler="tpe", seed=seed, allows=lambda one: one["adapter_size"] == 8
        )
        if params is None:
            break
        assert params["adapter_size"] == small["adapter_size"]
        trials.append(record(len(trials), params, 0.5))
    assert len(trials) == 3


ACTIVATIONS = ("relu", "relu6", "leaky_relu", "swish", "sigmoid", "tanh")
# Houlsby et al. 2019, supplementary, Table 5 (with the modules of Table 6).
TABLE_5 = {
    "embedding_module": ["nnlm_50", "nnlm_128", "skipgram_250", "skipgram_500", "use_512"],
    "fine_tune_embedding": [True, False],
    "lowercase": [True, False],
    "strip": [True, False],
    "convolution": [True, False],
    "convolution_activation": {"values": list(ACTIVATIONS), "when": {"convolution": True}},
    "convolution_batch_norm": {"values": [True, False], "when": {"convolution": True}},
    "max_ngram": {"values": [2, 3], "when": {"convolution": True}},
    "convolution_dropout": {"low": 0.0, "high": 0.4, "when": {"convolution": True}},
    "filters": {"low": 50, "high": 200, "when": {"convolution": True}},
    "embedding_dropout": {"low": 0.0, "high": 0.4},
    "hidden_layers": [0, 1, 2, 3, 5],
    "hidden_size": {"values": [64, 128, 256], "when": {"hidden_layers": {"above": 0}}},
    "hidden_activation": {"values": list(ACTIVATIONS), "when": {"hidden_layers": {"above": 0}}},
    "hidden_norm": {"values": ["none", "batch", "layer"], "when": {"hidden_layers": {"above": 0}}},
    "hidden_dropout": {
        "values": [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5],
        "when": {"hidden_layers": {"above": 0}},
    },
    "deep_rate": [0.001, 0.005, 0.01, 0.05, 0.1, 0.5],
    "deep_regularisation": [0.0, 1e-4, 1e-3, 1e-2],
    "wide_rate": [0.001, 0.005, 0.01, 0.05, 0.1, 0.5],
    "wide_regularisation": [0.0, 1e-4, 1e-3, 1e-2],
    "training_samples": [100_000, 200_000, 500_000, 1_000_000, 2_000_000],
}
TEXTS = {
    "embedding_module": tuple(TABLE_5["embedding_module"]),
    "convolution_activation": ACTIVATIONS,
    "hidden_activation": ACTIVATIONS,
    "hidden_norm": ("none", "batch", "layer"),
}
SWITCHES = ("fine_tune_embedding", "lowercase", "strip", "convolution", "convolution_batch_norm")
WHOLE = ("max_ngram", "filters", "hidden_layers", "hidden_size", "training_samples")


@pytest.fixture
def embeddings(monkeypatch):
    for name in TABLE_5:
        if name in TEXTS:
            legal = Legal.text(*TEXTS[name], methods=("embeddings",))
        elif name in SWITCHES:
            legal = Legal.switch(("embeddings",))
        else:
            legal = Legal(int if name in WHOLE else float, 0, 10_000_000, "a number", ("embeddings",))
        monkeypatch.setitem(space.PARAMETERS, name, legal)


@pytest.mark.usefixtures("embeddings")
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_papers_space_of_21_parameters_can_be_searched(sampler):
    assert len(TABLE_5) == 21
    whole = Space.parse(TABLE_5)
    assert Space.parse(json.loads(json.dumps(whole.to_dict()))) == whole
    trials = []
    for number in range(14):
        params = propose(trials, whole, sampler=sampler, seed=number)
        assert whole.contains(params)
        assert ("filters" in params) == params["convolution"]
        assert ("hidden_size" in params) == (params["hidden_layers"] > 0)
        trials.append(record(number, params, params["deep_rate"]))


@pytest.mark.usefixtures("embeddings")
@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"convolution": [1]}, "needs true or false"),
        ({"hidden_norm": ["bacth"]}, "Did you mean 'batch'?"),
        ({"hidden_norm": {"low": 1, "high": 2}}, "has no numbers to range over"),
    ],
)
def test_text_and_switches_are_checked(written, message):
    with pytest.raises(SpaceError) as caught:
        Space.parse(written)
    assert message in str(caught.value)


def test_a_parameter_that_a_method_does_not_have_is_refused(monkeypatch):
    owned = space.PARAMETERS["init_std"]._replace(methods=("embeddings",))
    monkeypatch.setitem(space.PARAMETERS, "init_std", owned)
    raw = {"name": "job", "backbone": "b", "tasks": ["glue_cola"], "space": {"epochs": 3, "init_std": 0.1}}
    with pytest.raises(JobError) as caught:
        SearchJob.parse(raw)
    assert "space.init_std = [0.1]: the method adapter has no such parameter" in str(caught.value)
    assert "It is for embeddings." in str(caught.value)
