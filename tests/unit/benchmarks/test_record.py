"""The record of adapter searches: its grid, its file, and trials as a search would train them."""

import importlib
import json
import sys
from argparse import Namespace
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny import tiny_backbone, toy_task

from pipelines.config import TrainConfig
from pipelines.packs.pack import Pack
from pipelines.packs.training import Training

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
TASKS = ("a", "b")


@pytest.fixture(scope="module")
def record():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("record")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def prepared(record, tmp_path_factory):
    """A tiny encoder and two toy tasks, read from their file."""
    path = tmp_path_factory.mktemp("record") / "prepared.safetensors"
    tasks = []
    for name in TASKS:
        task = toy_task(rows=16, validation_rows=8)
        named = replace(task, name=name)
        test = toy_task(rows=8, validation_rows=12)
        tasks.append(record.joined(named, test.validation, test.validation_targets))
    record.write_prepared(path, tiny_backbone(), tasks, {"encoder": "tiny", "commit": "none"})
    return record.read_prepared(path, torch.device("cpu"))


@pytest.fixture
def two_stages(record, monkeypatch):
    """A grid of two trials, then of four."""
    first = {"seed": (0,), "adapter_size": (4,), "learning_rate": (1e-3, 1e-2), "epochs": (2,)}
    stages = (first | {"first_layer": (0,), "dropout": (record.OWN,)}, {"first_layer": (record.HALF,)})
    monkeypatch.setattr(record, "STAGES", stages)
    return stages


def test_the_grid_has_each_trial_once_and_every_stage_is_a_whole_grid(record):
    trials = list(record.ordered_trials(["t"], depth=6, dropout=0.1))
    assert len(set(trials)) == len(trials) == 6 * 8 * 3 * 2 * 2 * 3
    known, size = {}, 0
    for stage in record.STAGES:
        for name, values in stage.items():
            known[name] = known.get(name, 0) + len(values)
        size = int(np.prod(list(known.values())))
        axes = [len(set(values)) for values in zip(*trials[:size], strict=True)]
        assert int(np.prod(axes)) == size


def test_all_tasks_go_through_a_stage_before_the_next_begins(record):
    trials = list(record.ordered_trials(TASKS, depth=6, dropout=0.1))
    assert Counter(trial[0] for trial in trials[:48]) == {"a": 24, "b": 24}
    assert {trial[1 + record.PARAMETERS.index("first_layer")] for trial in trials[:48]} == {0}


def test_a_trial_of_the_record_is_trained_as_in_a_search(record, prepared, two_stages, tmp_path):
    out = tmp_path / "trials.jsonl"
    assert record.train(prepared, out, device=torch.device("cpu"), minutes=5, places=3) == 0
    lines = record.read_lines(out)
    assert len(lines) == 8
    for line in lines:
        task, *values = line["trial"]
        encoded = prepared.tasks[task].encoded
        own = encoded.validation.take(np.arange(8))
        config = TrainConfig(**dict(zip(record.PARAMETERS, values, strict=True)))
        pack = Pack(prepared.backbone, pooling=prepared.pooling, precision="fp32")
        alone = Training(
            prepared.backbone,
            replace(encoded, validation=own),
            config,
            pack=pack,
        )
        found = [(one.train_loss, one.validation_loss, one.score) for one in alone.run()]
        assert np.allclose(found, [epoch[:3] for epoch in line["epochs"]], rtol=1e-4)


def test_test_scores_are_those_of_the_test_rows_alone(record, prepared, two_stages, tmp_path):
    trial = next(record.ordered_trials(TASKS, depth=2, dropout=0.0))
    pack = Pack(prepared.backbone, pooling=prepared.pooling, precision="fp32")
    task = prepared.tasks["a"]
    training = record.RecordedTraining(trial, task, prepared.backbone, pack)
    assert len(task.test_targets) == 12
    outputs = np.zeros((20, 2))
    outputs[np.arange(8), 1 - task.encoded.validation_targets] = 1  # all wrong
    outputs[8 + np.arange(12), task.test_targets] = 1  # all right
    training.end_epoch(outputs, {})
    assert training.epochs[0].score == 0.0
    assert training.test_scores == [1.0]


def test_a_record_that_was_ended_goes_on_where_it_was(record, prepared, two_stages, tmp_path):
    out = tmp_path / "trials.jsonl"
    record.train(prepared, out, device=torch.device("cpu"), minutes=5, places=3)
    whole = out.read_text().splitlines()
    out.write_text("\n".join(whole[:5]) + "\n" + whole[5][:40])
    assert record.train(prepared, out, device=torch.device("cpu"), minutes=0, places=3) == 3
    assert record.train(prepared, out, device=torch.device("cpu"), minutes=5, places=3) == 0
    assert {tuple(one["trial"]) for one in record.read_lines(out)} == set(
        record.ordered_trials(TASKS, depth=2, dropout=prepared.dropout)
    )


def test_the_table_has_a_row_for_each_epoch_and_is_what_searches_are_replayed_on(
    record, prepared, two_stages, tmp_path
):
    out = tmp_path / "trials.jsonl"
    record.train(prepared, out, device=torch.device("cpu"), minutes=5, places=3)
    assert record.write_table(record.read_lines(out), tmp_path / "record.parquet", {"commit": "c"}) == 16
    assert b"commit" in pq.read_schema(tmp_path / "record.parquet").metadata[b"about"]
    replays = importlib.import_module("replays")
    grids = replays.read_record(tmp_path / "record.parquet")
    assert {name: len(seeds[0].trials) for name, seeds in grids.items()} == {"a": 4, "b": 4}


def test_a_record_is_added_to_and_its_trials_are_not_trained_again(record, prepared, two_stages, tmp_path):
    """The first trials into a record, the others into another file that is added to it."""
    out, parquet = tmp_path / "trials.jsonl", tmp_path / "record.parquet"
    about = {"encoder": "tiny", "max_tokens": 8, "rows": {}}
    record.train(prepared, out, device=torch.device("cpu"), minutes=5, places=3)
    every = record.read_lines(out)
    record.write_table(every[:5], parquet, about)
    known = [tuple(one["trial"]) for one in record.read_table(parquet)]
    assert sorted(known) == sorted(tuple(one["trial"]) for one in every[:5])
    rest = tmp_path / "rest.jsonl"
    left = record.train(prepared, rest, device=torch.device("cpu"), minutes=5, places=3, known=known)
    assert (left, len(record.read_lines(rest))) == (0, 3)
    rest.with_suffix(".about.json").write_text(json.dumps(about))
    record.table(Namespace(trials=rest, out=parquet))
    added = {tuple(one["trial"]): one["epochs"] for one in record.read_table(parquet)}
    assert set(added) == {tuple(one["trial"]) for one in every}
    rest.with_suffix(".about.json").write_text(json.dumps(about | {"max_tokens": 9}))
    with pytest.raises(SystemExit, match="of another max_tokens"):
        record.table(Namespace(trials=rest, out=parquet))


def test_trials_of_other_rows_are_not_taken_for_those_of_this_record(record, tmp_path):
    parquet, about = tmp_path / "record.parquet", {"encoder": "tiny", "max_tokens": 8, "rows": {"a": [1]}}
    assert record.differences(parquet, about) == []
    record.write_table([], parquet, about)
    assert record.differences(parquet, about | {"torch": "another"}) == []
    assert record.differences(parquet, about | {"rows": {"a": [2]}}) == ["rows"]
