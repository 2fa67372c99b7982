import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from spaces import PARAMETERS, Choice, FieldError, Range, Space, SpaceError

LEGAL = {
    "adapter_size": st.integers(1, 4096),
    "learning_rate": st.floats(1e-7, 1.0),
    "epochs": st.integers(1, 100),
    "batch_size": st.integers(1, 512),
    "weight_decay": st.floats(0, 1.0),
    "dropout": st.floats(0, 0.99),
    "init_std": st.floats(1e-7, 1.0),
    "top_layers": st.integers(1, 24),
    "first_layer": st.integers(0, 23),
    "last_layer": st.integers(0, 23),
    "adapter_layers": st.integers(1, 4),
    "embedding": st.sampled_from(["token_table", "sentence", "glove"]),
    "convolution_ngram": st.integers(1, 5),
    "convolution_filters": st.integers(1, 200),
    "hidden_layers": st.integers(0, 5),
    "hidden_size": st.integers(1, 256),
    "training_samples": st.integers(1, 10**7),
    **{f"{part}_dropout": st.floats(0, 0.99) for part in ("convolution", "embedding", "hidden")},
    **{f"{tower}_learning_rate": st.floats(1e-7, 1.0) for tower in ("deep", "wide")},
    **{f"{tower}_regularisation": st.floats(0, 1.0) for tower in ("deep", "wide")},
}


@st.composite
def written_parameters(draw, name):
    legal = PARAMETERS[name]
    other = st.sampled_from(legal.options) if legal.options else st.booleans()
    value = LEGAL.get(name, other)
    shape = draw(st.sampled_from(["fixed", "choice", "range"] if legal.is_number else ["fixed", "choice"]))
    if shape == "fixed":
        return draw(value)
    if shape == "choice":
        return draw(st.lists(value, min_size=1, max_size=5, unique=True))
    low, high = sorted(draw(st.lists(value, min_size=2, max_size=2, unique=True)))
    return {"low": low, "high": high, "log": draw(st.booleans()) and low > 0}


def written_spaces():
    return st.sets(st.sampled_from(sorted(PARAMETERS)), min_size=1).flatmap(
        lambda names: st.fixed_dictionaries({name: written_parameters(name) for name in names})
    )


@given(written_spaces())
def test_a_space_is_the_same_after_json(written):
    space = Space.parse(written)
    assert Space.parse(json.loads(json.dumps(space.to_dict()))) == space


@pytest.mark.integration
@given(written_spaces(), st.data())
def test_a_space_contains_what_its_distributions_allow(written, data):
    space = Space.parse(written)
    params = {}
    for name, distribution in space.distributions().items():
        match distribution:
            case CategoricalDistribution():
                params[name] = data.draw(st.sampled_from(distribution.choices))
            case IntDistribution():
                params[name] = data.draw(st.integers(distribution.low, distribution.high))
            case FloatDistribution():
                params[name] = data.draw(st.floats(distribution.low, distribution.high))
    assert space.contains(params)


@pytest.mark.integration
@given(written_spaces(), st.randoms())
def test_the_order_of_parameters_does_not_matter(written, rng):
    shuffled = dict(rng.sample(sorted(written.items()), len(written)))
    assert Space.parse(shuffled) == Space.parse(written)
    assert hash(Space.parse(shuffled)) == hash(Space.parse(written))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("a1", max_size=3) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["low", "high", "log", "x"]), inner)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*PARAMETERS, "x"]), ANYTHING))
def test_whatever_is_written_is_a_space_or_a_space_error(written):
    try:
        space = Space.parse(written)
    except SpaceError:
        return
    assert space.distributions().keys() == written.keys()


def test_a_finite_space_lists_every_point_once():
    space = Space.parse({"epochs": [3, 20], "adapter_size": {"low": 1, "high": 3}, "dropout": 0.1})
    points = list(space.points())
    assert points[0] == {"adapter_size": 1, "epochs": 3, "dropout": 0.1}
    assert len(points) == len({tuple(point.items()) for point in points}) == space.size == 6
    assert all(space.contains(point) for point in points)


def test_a_float_range_has_no_size_and_no_points():
    space = Space.parse({"learning_rate": {"low": 3e-5, "high": 3e-3, "log": True}})
    assert space.size is None
    with pytest.raises(
        FieldError, match=r"learning_rate = .*: has countless values\. Write a list of values"
    ):
        space.points()


def test_bounds_are_inclusive_and_types_follow_the_parameter():
    space = Space.parse(
        {
            "adapter_size": {"low": 8, "high": 256, "log": True},
            "learning_rate": {"low": 3e-5, "high": 3e-3, "log": True},
            "weight_decay": {"low": 0, "high": 1},
            "epochs": [3, 20],
            "batch_size": 32,
        }
    )
    assert space.distributions() == {
        "adapter_size": IntDistribution(8, 256, log=True),
        "learning_rate": FloatDistribution(3e-5, 3e-3, log=True),
        "weight_decay": FloatDistribution(0.0, 1.0),
        "epochs": CategoricalDistribution((3, 20)),
        "batch_size": CategoricalDistribution((32,)),
    }
    assert space.bounds("adapter_size") == (8, 256)
    assert space.bounds("epochs") == (3, 20)
    assert space.bounds("dropout") is None
    assert space.ranges == ("adapter_size", "learning_rate", "weight_decay")


def test_a_whole_number_is_fine_for_a_float_parameter():
    assert Space.parse({"weight_decay": 0}) == Space.parse({"weight_decay": [0.0]})
    assert type(Space.parse({"weight_decay": 0}).to_dict()["weight_decay"][0]) is float


@pytest.mark.parametrize(
    "params",
    [
        {"epochs": 4, "dropout": 0.2},
        {"epochs": 3},
        {"epochs": 3, "dropout": 0.2, "batch_size": 8},
        {"epochs": True, "dropout": 0.2},
        {"epochs": "3", "dropout": 0.2},
        {"epochs": 3, "dropout": 0.5},
        {"epochs": 3, "dropout": float("nan")},
    ],
)
def test_a_space_does_not_contain(params):
    space = Space.parse({"epochs": [1, 3], "dropout": {"low": 0.1, "high": 0.3}})
    assert space.contains({"epochs": 3, "dropout": 0.3})
    assert not space.contains(params)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({}, "space = {}: is empty. Search at least one parameter, e.g. adapter_size: [8, 64, 256]."),
        ([8], "space = [8]: needs a mapping"),
        (None, "space = None: needs a mapping"),
        ({"learning_rates": 1}, "learning_rates = 1: unknown parameter. Did you mean 'learning_rate'?"),
        ({7: 1}, "7 = 1: unknown parameter. Known: activation, adapter_layers"),
        ({"top_layers": [0]}, "top_layers = 0: needs a whole number, 1 or more."),
        ({"first_layer": -1}, "first_layer = -1: needs a whole number, 0 or more."),
        ({"activation": "gelo"}, "activation = 'gelo': needs one of gelu, relu, swish, tanh."),
        ({"epochs": []}, "epochs = []: has no values. Write at least one, or leave epochs out."),
        ({"epochs": [3, 3]}, "epochs = [3, 3]: has a value twice. Keep one of each."),
        ({"dropout": [0, 0.0]}, "dropout = [0, 0.0]: has a value twice."),
        ({"epochs": "3"}, "epochs = '3': needs a whole number, 1 or more. Write a number, without quotes."),
        ({"epochs": True}, "epochs = True: needs a whole number, 1 or more."),
        ({"epochs": 3.0}, "epochs = 3.0: needs a whole number, 1 or more. Write it without a decimal point."),
        ({"epochs": None}, "epochs = None: needs a whole number"),
        ({"epochs": 0}, "epochs = 0: needs a whole number, 1 or more."),
        ({"epochs": 10**400}, "needs a whole number, 1 or more. Write one, at most 1000000."),
        ({"epochs": [[3]]}, "epochs = [3]: needs a whole number"),
        ({"learning_rate": 0}, "learning_rate = 0: needs a number above 0."),
        ({"learning_rate": [float("nan")]}, "learning_rate = nan: needs a number above 0."),
        ({"learning_rate": float("inf")}, "learning_rate = inf: needs a number above 0."),
        ({"weight_decay": -0.1}, "weight_decay = -0.1: needs a number, 0 or more."),
        ({"dropout": 1}, "dropout = 1: needs a number from 0 to below 1."),
        (
            {"learning_rate": {"low": 3e-3, "high": 3e-5}},
            "learning_rate = {'low': 0.003, 'high': 3e-05}: needs low < high. "
            "Write the lower bound first: {low: 3e-05, high: 0.003}.",
        ),
        ({"epochs": {"low": 3, "high": 3}}, "low and high are the same. Write a single value: epochs: 3."),
        ({"dropout": {"low": 0, "high": 0.5, "log": True}}, "a log range needs low > 0."),
        ({"epochs": {"low": 3}}, "epochs = {'low': 3}: a range needs high. Write both ends"),
        ({"epochs": {}}, "epochs = {}: a range needs low and high."),
        (
            {"epochs": {"low": 1, "high": 9, "lgo": True}},
            "epochs.lgo = True: unknown key of a range. Did you mean",
        ),
        ({"epochs": {"low": 1, "high": 9, "log": "yes"}}, "epochs.log = 'yes': needs true or false."),
        ({"epochs": {"low": "1", "high": 9}}, "epochs.low = '1': needs a whole number"),
    ],
)
def test_a_space_refuses(written, message):
    with pytest.raises(SpaceError) as caught:
        Space.parse(written)
    assert message in str(caught.value)


def test_all_problems_come_at_once():
    with pytest.raises(SpaceError) as caught:
        Space.parse({"epochs": 0, "dropuot": 0.1, "learning_rate": {"low": 1}, "adapter_size": [8]})
    assert [problem.key for problem in caught.value.problems] == ["epochs", "dropuot", "learning_rate"]


def test_a_space_from_python_is_checked_as_well():
    with pytest.raises(SpaceError, match=r"dropout = 2\.0: needs a number from 0 to below 1"):
        Space((("dropout", Choice((2.0,))),))
    with pytest.raises(SpaceError, match="has a parameter twice"):
        Space((("epochs", Choice((2,))), ("epochs", Range(2, 3))))


def test_errors_survive_pickling():
    error = FieldError("epochs", 0, "needs more", "Write 1")
    copy = pickle.loads(pickle.dumps(SpaceError((error,))))  # noqa: S301
    assert str(copy) == str(error) == "epochs = 0: needs more. Write 1"
    assert copy.problems[0].key == "epochs"


def test_a_name_that_only_a_job_knows_is_a_value_of_embedding_alone():
    assert Space.parse({"embedding": ["glove"]}).values("embedding") == ("glove",)
    with pytest.raises(SpaceError, match="Did you mean 'batch'"):
        Space.parse({"hidden_norm": "bath"})
    with pytest.raises(SpaceError, match="needs one of token_table, sentence, or another name"):
        Space.parse({"embedding": ""})


def test_more_values_of_a_choice_bring_what_depends_on_it():
    space = Space.parse(
        {
            "embedding": ["token_table", "sentence"],
            "convolution": {"values": [True, False], "when": {"embedding": "token_table"}},
            "convolution_ngram": {"values": [2, 3], "when": {"convolution": True}},
        }
    )
    more = space.beside("embedding", "token_table", ("glove",))
    assert more.to_dict() == {
        "embedding": ["token_table", "sentence", "glove"],
        "convolution": {"values": [True, False], "when": {"embedding": ["token_table", "glove"]}},
        "convolution_ngram": {"values": [2, 3], "when": {"convolution": [True]}},
    }
    assert space.beside("embedding", "token_table", ()) == space


def test_a_choice_that_was_left_out_begins_with_what_it_was():
    space = Space.parse({"lowercase": [True, False]}).beside("embedding", "token_table", ("glove",))
    assert space.to_dict() == {"embedding": ["token_table", "glove"], "lowercase": [True, False]}
