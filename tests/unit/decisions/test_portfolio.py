"""What a very first search begins with: what ships, chosen for the task and the space at hand."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import TrainConfig
from search.decisions.portfolio import RecordedTask, TaskFacts, suggest
from search.experience import shipped
from search.record import Experience, StudyFacts
from spaces import Space, preset

FACTS = TaskFacts(kind="classification", rows=500, classes=2, tokens=30, width=384)
DEFAULT = TrainConfig().to_dict()
RATES = (1e-4, 1e-3, 1e-2)
SPACE = Space.parse({"adapter_size": [8, 64, 256], "learning_rate": list(RATES), "epochs": [3, 10]})


def recorded(name, best_rate, *, layers=6, more=None, **changes):
    """A task on which trials are the worse the further their learning rate is from the best one."""
    regrets = [
        (
            {"adapter_size": size, "learning_rate": rate, "epochs": 10, **(more or {})},
            min(1.0, abs(math.log10(rate / best_rate)) / 2 + (0.1 if size != 64 else 0.0)),
        )
        for size in (8, 64, 256)
        for rate in RATES
    ]
    return RecordedTask(name, TaskFacts(**vars(FACTS) | changes), layers, regrets)


def first(record, *, facts=FACTS, space=SPACE, layers=6, **changes):
    return suggest(record, facts, space, default=DEFAULT, layers=layers, **changes)


def test_the_first_suggestion_is_best_for_most_and_the_next_for_the_rest():
    chosen = first([recorded("a", 1e-3), recorded("b", 1e-3), recorded("c", 1e-2)])
    assert [one["learning_rate"] for one in chosen[:2]] == [1e-3, 1e-2]
    assert chosen[0] == {"adapter_size": 64, "learning_rate": 1e-3, "epochs": 10}


def test_tasks_that_are_alike_count_more():
    record = [recorded("small", 1e-2, rows=300), recorded("large", 1e-4, rows=300_000)]
    for rows, rate in ((400, 1e-2), (200_000, 1e-4)):
        (params, *_) = first(record, facts=TaskFacts(**vars(FACTS) | {"rows": rows}))
        assert params["learning_rate"] == rate


@pytest.mark.parametrize(
    "changes", [{"kind": "span"}, {"width": 32}, {"width": 4096}], ids=["kind", "narrow", "wide"]
)
def test_of_another_kind_or_a_quite_other_encoder_nothing_is_known(changes):
    assert first([recorded("a", 1e-3)], facts=TaskFacts(**vars(FACTS) | changes)) == []


def test_a_configuration_takes_the_spaces_own_nearest_values():
    space = Space.parse(
        {"adapter_size": [16, 100], "learning_rate": {"low": 2e-5, "high": 5e-3, "log": True}, "epochs": 20}
    )
    (params, *_) = first([recorded("a", 1e-2)], space=space)
    assert params == {"adapter_size": 100, "learning_rate": 5e-3, "epochs": 20}


def test_what_a_space_leaves_out_is_the_methods_default():
    # The default size is 64, so that the size 8 that is best here is not what would be run.
    task = recorded("a", 1e-3)
    best = [(params, 0.0 if params["adapter_size"] == 8 else regret) for params, regret in task.regrets]
    space = Space.parse({"learning_rate": list(RATES), "epochs": [10]})
    chosen = first([RecordedTask("a", FACTS, 6, best)], space=space)
    assert chosen[0] == {"learning_rate": 1e-3, "epochs": 10}


def test_a_space_far_from_all_that_was_recorded_gets_no_suggestions():
    assert first([recorded("a", 1e-3)], space=Space.parse({"learning_rate": 1e-7, "epochs": 10})) == []
    assert first([recorded("a", 1e-3)], space=Space.parse({"adapter_size": 4096})) == []
    assert first([], space=SPACE) == []


def test_half_the_depth_of_one_encoder_is_half_the_depth_of_another():
    space = Space.parse({"learning_rate": list(RATES), "epochs": 10, "first_layer": [0, 3, 6]})
    (params, *_) = first([recorded("a", 1e-3, more={"first_layer": 3})], space=space, layers=12)
    assert params["first_layer"] == 6


def test_parameters_that_depend_on_others_are_there_where_they_exist():
    space = Space.parse(
        {
            "learning_rate": list(RATES),
            "epochs": 10,
            "activation": ["relu", "gelu"],
            "adapter_size": {"values": [64, 8], "when": {"activation": ["gelu"]}},
        }
    )
    for params in first([recorded("a", 1e-3)], space=space):
        assert space.contains(params)


@pytest.mark.integration
@given(
    st.sampled_from(["default", "glue", "further", "squad"]),
    st.integers(1, 10**6),
    st.integers(1, 100),
    st.floats(1, 512),
    st.integers(130, 1100),
    st.integers(1, 48),
    st.integers(1, 8),
)
def test_what_ships_suggests_configurations_of_the_space_each_once(
    name, rows, classes, tokens, width, layers, size
):
    facts = TaskFacts("classification", rows, classes, tokens, width)
    space = preset(name)
    chosen = suggest(shipped().tasks, facts, space, default=DEFAULT, layers=layers, size=size)
    assert all(space.contains(params) for params in chosen)
    assert len(chosen) == len({json.dumps(params, sort_keys=True) for params in chosen}) <= size


def test_the_order_of_the_recorded_tasks_does_not_matter():
    tasks = shipped().tasks
    assert first(tasks) == first(tasks[::-1])


def test_what_ships_is_of_validation_scores_and_says_where_it_is_from():
    raw = json.loads(shipped.__wrapped__.__globals__["SHIPPED"].read_text())
    assert "test" not in json.dumps(raw)
    assert raw["source"].startswith("benchmarks/portfolio.py")
    for task in shipped().tasks:
        assert min(regret for _, regret in task.regrets) == 0
        assert all(0 <= regret <= 1 for _, regret in task.regrets)


def test_a_record_of_before_has_no_word_of_what_ships():
    begins = Experience(("a",), ({"x": 1},))
    facts = StudyFacts(metric="accuracy", backbone_parameters=1, job={}, experience=begins)
    raw = json.loads(json.dumps(facts.to_dict()))
    assert StudyFacts.from_dict(raw).experience == begins
    del raw["experience"]["shipped"]
    assert StudyFacts.from_dict(raw).experience == begins
