"""A report's statistics: seeds, levels, percentiles over tasks, parameters for all tasks."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.report.statistics import (
    MANY_VALUES,
    Configuration,
    MethodRuns,
    Point,
    Run,
    bands,
    best_of,
    configurations_of,
    frontier,
    levels_of,
    mean_of,
    total_encoders,
    trained_share,
)

scores = st.floats(0, 1, allow_nan=False)
runs = st.builds(
    lambda value, **given: Run(validation=value, score=value, **given),
    value=scores,
    params=st.fixed_dictionaries({"adapter_size": st.sampled_from([8, 64, 256])}),
    seed=st.integers(0, 3),
    trained=st.just(100),
    test=st.none() | scores,
)


def run(score, seed=0, trained=100, test=None, **params):
    return Run(params=params, seed=seed, validation=score, score=score, trained=trained, test=test)


def config(score, *, trained=100, seeds=1, **params):
    return Configuration(params, tuple(run(score, seed, trained, **params) for seed in range(seeds)))


def method_runs(method="adapter", *, trained=100, backbone=1000, task="task"):
    winner = config(0.5, trained=trained)
    return MethodRuns(task, method, "accuracy", "classification", backbone, (winner,), winner, winner.runs[0])


@given(st.lists(scores, min_size=2, max_size=9))
def test_the_standard_error_is_the_sample_deviation_over_the_root_of_n(values):
    mean = mean_of(values)
    assert mean.value == pytest.approx(statistics.fmean(values))
    assert mean.sem == pytest.approx(statistics.stdev(values) / math.sqrt(len(values)), abs=1e-12)
    assert mean.n == len(values)


def test_one_seed_has_no_standard_error():
    assert mean_of([0.5]) == (0.5, None, 1)


@given(st.lists(runs, max_size=20))
def test_configurations_hold_each_seed_of_the_same_parameters_once(given_runs):
    found = configurations_of(given_runs)
    expected = {(run.params["adapter_size"], run.seed) for run in given_runs}
    assert sorted((one.params["adapter_size"], r.seed) for one in found for r in one.runs) == sorted(expected)
    assert len(found) == len({run.params["adapter_size"] for run in given_runs})
    for one in found:
        assert all(run in given_runs for run in one.runs)


def test_a_test_score_is_kept_where_a_seed_was_run_twice():
    (one,) = configurations_of([run(0.5, m=1), run(0.5, m=1, test=0.4)])
    assert one.test == (0.4, None, 1)


def test_one_lucky_seed_does_not_beat_a_configuration_that_was_run_again():
    lucky, steady = config(0.95, seeds=1, m=8), config(0.90, seeds=3, m=64)
    assert best_of([lucky, steady]) == steady
    assert best_of([config(0.8, trained=9, m=1), config(0.8, trained=5, m=2)]).trained == 5


@given(st.lists(runs, min_size=1, max_size=12), st.randoms())
def test_the_best_score_does_not_depend_on_the_order(given_runs, rng):
    found = configurations_of(given_runs)
    shuffled = rng.sample(found, len(found))
    assert best_of(shuffled).validation == best_of(found).validation


@given(st.sets(st.integers(1, 4096), min_size=1))
def test_a_level_is_the_value_itself_or_the_nearest_power_where_there_are_many(sizes):
    found = levels_of(sizes, base=2)
    assert found.keys() == sizes
    for size, level in found.items():
        if len(sizes) <= MANY_VALUES:
            assert level == size
        else:
            assert abs(math.log2(level) - math.log2(size)) <= 0.5 + 1e-9
            assert math.log2(level) == int(math.log2(level))


def test_the_frontier_has_the_best_of_each_level_in_order():
    given_configs = [config(0.5, m=64), config(0.7, m=8), config(0.6, m=64)]
    points = frontier(given_configs, lambda one: one.params["m"])
    assert [(point.level, point.best.validation.value) for point in points] == [(8, 0.7), (64, 0.6)]


def test_bands_are_percentiles_over_tasks_of_the_score_minus_the_tasks_own_baseline():
    # Six tasks that lose 0, 1, …, 5 points: linear percentiles of these are 1, 2.5 and 4.
    curves = {str(i): [Point(64, config(0.5 + 0.1 * i - i / 100, trained=100 + i))] for i in range(6)}
    baselines = {str(i): 0.5 + 0.1 * i for i in range(6)}
    (band,) = bands(curves, baselines)
    assert (band.low, band.middle, band.high) == pytest.approx((-0.04, -0.025, -0.01))
    assert (band.trained, band.tasks) == (102.5, 6)


def test_two_tasks_have_no_band():
    curves = {task: [Point(64, config(0.5))] for task in "ab"}
    assert bands(curves, {"a": 0, "b": 0}) == ()


@pytest.mark.parametrize(
    ("method", "percent", "tasks", "paper"),
    [
        ("adapter", 3.6, 9, 1.3),
        ("adapter", 2.1, 9, 1.2),
        ("fine_tune", 100, 9, 9),
        ("adapter", 1.14, 17, 1.19),
        ("top_layers", 52.9, 17, 9.9),
        ("fine_tune", 100, 17, 17),
    ],
)
def test_all_tasks_together_cost_what_the_paper_says(method, percent, tasks, paper):
    found = [method_runs(method, trained=round(percent * 1000), backbone=100_000)] * tasks
    assert total_encoders(method, found) == pytest.approx(paper, abs=0.1)
    assert trained_share(found) == pytest.approx(percent / 100)
