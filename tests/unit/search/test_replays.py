"""Searches that are replayed on recorded trials, as `benchmarks/search_quality.py` does."""

import importlib
import itertools
import math
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
GRID = {"adapter_size": [8, 64], "learning_rate": [1e-4, 1e-3], "epochs": [1, 3], "dropout": [0.0, 0.1]}


@pytest.fixture(scope="module")
def replays():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("replays")
    sys.path.remove(str(BENCHMARKS))


def rows(task="a", seed=0, *, but=()):
    """Each configuration's epochs: larger adapters are better on validation, and worse on test."""
    for number, values in enumerate(itertools.product(*GRID.values())):
        params = dict(zip(GRID, values, strict=True))
        if number in but:
            continue
        for epoch in range(1, params["epochs"] + 1):
            score = 0.5 + params["adapter_size"] / 256 + epoch / 100 + params["learning_rate"]
            yield {
                **params,
                "task": task,
                "seed": seed,
                "epoch": epoch,
                "validation_loss": 1 - score,
                "validation_score": score,
                "test_score": 1 - score,
            }


def record(replays, tmp_path, found):
    path = tmp_path / "record.parquet"
    pq.write_table(pa.Table.from_pylist(list(found)), path)
    return replays.read_record(path)


@pytest.mark.integration
def test_a_search_of_a_whole_grid_ends_at_its_best(replays, tmp_path):
    task = record(replays, tmp_path, rows())["a"][0]
    curve = replays.replay(task, sampler="grid", scheduler="none", seed=0, first=())
    assert len(curve) == task.cost == 32
    assert curve[-1].score == task.best
    assert curve[-1].test == pytest.approx(task.chosen_test) == pytest.approx(1 - task.best)


@pytest.mark.integration
def test_no_replay_depends_on_test_scores(replays, tmp_path):
    """The same rows with other test scores: the same search."""
    found = [
        record(replays, tmp_path, ({**row, "test_score": factor * row["test_score"]} for row in rows()))
        for factor in (1.0, 0.0)
    ]
    curves = [
        replays.replay(one["a"][0], sampler="tpe", scheduler="halving", seed=1, first=()) for one in found
    ]
    assert [one.score for one in curves[0]] == [one.score for one in curves[1]]
    assert {one.test for one in curves[1]} == {0.0}


def test_of_a_grid_with_gaps_the_largest_whole_one_is_searched(replays, tmp_path):
    task = record(replays, tmp_path, rows(but=(3,)))["a"][0]
    assert len(task.trials) == 8
    missing = list(itertools.product(*GRID.values()))[3]
    assert missing not in {(key[0], key[1], key[2], key[3]) for key in task.trials}
    sizes = [len(parameter.values) for _, parameter in task.space().parameters]
    assert math.prod(sizes) == len(task.trials)


def test_tasks_and_seeds_are_apart(replays, tmp_path):
    found = record(replays, tmp_path, [*rows("a"), *rows("b"), *rows("b", seed=1)])
    assert {task: sorted(seeds) for task, seeds in found.items()} == {"a": [0], "b": [0, 1]}
