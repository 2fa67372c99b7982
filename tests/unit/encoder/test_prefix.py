"""Layers that nothing trains are computed once: exactly, safely, and within a budget."""

import dataclasses
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import LAYERS, tiny_backbone, toy_task

from pipelines.config import TrainConfig
from pipelines.encoder.architectures import ARCHITECTURES
from pipelines.encoder.prefix import PrefixCache
from pipelines.packs.training import Training

LAYERED = sorted(name for name, one in ARCHITECTURES.items() if not one.shared_layers)


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone(num_hidden_layers=3)


@pytest.fixture(scope="module")
def task():
    return toy_task(rows=32, validation_rows=16)


def config(**changes):
    base = {"adapter_size": 4, "learning_rate": 1e-3, "epochs": 2, "batch_size": 8, "first_layer": 1}
    return TrainConfig(**{**base, **changes})


def trained(backbone, task, one, cache=None, precision="fp32"):
    training = Training(backbone, task, one, precision=precision, cache=cache)
    list(training.run())
    return training


def plainly_hidden(backbone, tokens, layer):
    """The output of a layer for each text alone, from transformers' own record of hidden states."""
    pieces = []
    for start, end in zip(tokens.offsets, tokens.offsets[1:], strict=False):
        ids = torch.from_numpy(tokens.ids[start:end].astype(np.int64))[None]
        types = (
            None if tokens.types is None else torch.from_numpy(tokens.types[start:end].astype(np.int64))[None]
        )
        with torch.no_grad():
            output = backbone.model(input_ids=ids, token_type_ids=types, output_hidden_states=True)
        pieces.append(output.hidden_states[layer][0].numpy())
    return np.concatenate(pieces)


@pytest.mark.parametrize("boundary", [1, 2])
def test_what_is_kept_is_the_output_of_the_layer_below(tmp_path, backbone, task, boundary):
    kept = PrefixCache(tmp_path, 1).read(backbone, task.train, boundary, "fp32")
    np.testing.assert_allclose(kept, plainly_hidden(backbone, task.train, boundary), rtol=1e-4, atol=1e-5)


@pytest.mark.integration
@pytest.mark.parametrize(
    "changes", [{}, {"method": "top_layers", "first_layer": 0}, {"method": "layer_norm"}]
)
def test_scores_are_the_same_with_and_without_the_cache(tmp_path, backbone, task, changes):
    one = config(dropout=0.1, **changes)
    with_cache, without = (trained(backbone, task, one, cache) for cache in (PrefixCache(tmp_path, 1), None))
    assert list(tmp_path.glob("*.hidden"))
    assert [e.scores for e in with_cache.epochs] == [e.scores for e in without.epochs]
    for mine, own in zip(with_cache.epochs, without.epochs, strict=True):
        assert mine.train_loss == pytest.approx(own.train_loss, rel=1e-5)


@pytest.mark.integration
@pytest.mark.parametrize("model_type", LAYERED)
def test_every_architecture_can_start_in_the_middle(tmp_path, model_type):
    backbone, task = tiny_backbone(model_type), toy_task(rows=16, validation_rows=8)
    one = config(epochs=1, first_layer=LAYERS - 1)
    with_cache, without = (trained(backbone, task, one, cache) for cache in (PrefixCache(tmp_path, 1), None))
    assert with_cache.epochs[0].train_loss == pytest.approx(without.epochs[0].train_loss, rel=1e-5)


def test_in_bf16_scores_are_the_same_within_noise(tmp_path, backbone, task):
    one = config(epochs=1)
    with_cache, without = (
        trained(backbone, task, one, cache, "bf16") for cache in (PrefixCache(tmp_path, 1), None)
    )
    assert with_cache.epochs[0].train_loss == pytest.approx(without.epochs[0].train_loss, rel=0.02)
    sizes = sorted(file.stat().st_size for file in tmp_path.glob("*.hidden"))
    assert sizes == [2 * backbone.width * len(split.ids) for split in (task.validation, task.train)]


def test_the_layers_below_are_not_computed(tmp_path, backbone, task, monkeypatch):
    cache = PrefixCache(tmp_path, 1)
    trained(backbone, task, config(epochs=1), cache)

    def explode(*_, **__):
        raise AssertionError("the first layer ran")

    training = Training(backbone, task, config(epochs=1, seed=1), precision="fp32", cache=cache)
    training.model._lower[0].forward = explode
    list(training.run())


def test_a_later_job_maps_the_file_that_is_there(tmp_path, backbone, task, monkeypatch):
    PrefixCache(tmp_path, 1).read(backbone, task.train, 1, "fp32")
    monkeypatch.setattr("pipelines.encoder.prefix.hidden_states", None)
    again = PrefixCache(tmp_path, 1).read(backbone, task.train, 1, "fp32")
    assert isinstance(again, np.memmap)


def test_other_tokens_layers_weights_and_precisions_have_files_of_their_own(tmp_path, backbone, task):
    cache = PrefixCache(tmp_path, 1)
    other = dataclasses.replace(tiny_backbone(num_hidden_layers=3, seed=1), fingerprint="other")
    for own, tokens, boundary, precision in (
        (backbone, task.train, 1, "fp32"),
        (backbone, task.validation, 1, "fp32"),
        (backbone, task.train, 2, "fp32"),
        (backbone, task.train, 1, "bf16"),
        (other, task.train, 1, "fp32"),
    ):
        cache.read(own, tokens, boundary, precision)
    assert len(list(tmp_path.glob("*.hidden"))) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-4]),
        lambda path: path.write_bytes(b"\1" + path.read_bytes()[1:]),
        lambda path: path.with_suffix(".json").unlink(),
        lambda path: path.with_suffix(".json").write_text("{"),
    ],
    ids=["cut short", "changed", "without its note", "with half a note"],
)
def test_a_damaged_file_is_computed_again(tmp_path, backbone, task, damage):
    before = np.array(PrefixCache(tmp_path, 1).read(backbone, task.train, 1, "fp32"))
    [path] = tmp_path.glob("*.hidden")
    damage(path)
    assert np.array_equal(PrefixCache(tmp_path, 1).read(backbone, task.train, 1, "fp32"), before)


def test_a_writer_that_is_cut_off_leaves_nothing_that_counts(tmp_path, backbone, task, monkeypatch):
    def pieces(*_):
        yield 0, np.zeros((1, backbone.width), dtype=np.float32)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.encoder.prefix.hidden_states", pieces)
        with pytest.raises(KeyboardInterrupt):
            PrefixCache(tmp_path, 1).read(backbone, task.train, 1, "fp32")
    assert not list(tmp_path.glob("*.hidden"))
    assert not list(tmp_path.glob(".writing-*"))
    PrefixCache(tmp_path, 1).read(backbone, task.train, 1, "fp32")


def test_what_a_killed_writer_had_half_written_goes_and_what_another_writes_stays(
    tmp_path, backbone, task, monkeypatch
):
    def pieces(*_):
        yield 0, np.zeros((1, backbone.width), dtype=np.float32)
        os._exit(9)

    def write():
        monkeypatch.setattr("pipelines.encoder.prefix.hidden_states", pieces)
        PrefixCache(tmp_path, 1).read(backbone, task.train, 1, "fp32")

    killed = multiprocessing.get_context("fork").Process(target=write)
    killed.start()
    killed.join()
    assert killed.exitcode == 9
    [left] = tmp_path.glob(".writing-*")
    other = tmp_path / ".writing-another-1"
    other.touch()
    PrefixCache(tmp_path, 1).read(backbone, task.train, 1, "fp32")
    assert not left.exists()
    assert other.exists()


def test_the_oldest_unused_goes_first_when_the_budget_is_full(tmp_path, backbone, task):
    size = len(task.train.ids) * backbone.width * 4
    cache = PrefixCache(tmp_path, 2.5 * size / 1e9)
    mapped = cache.read(backbone, task.train, 1, "fp32")
    before = mapped.copy()
    for path in tmp_path.glob("*"):
        os.utime(path, (1, 1))
    cache.read(backbone, task.train, 2, "fp32")
    cache.read(tiny_backbone(num_hidden_layers=3, seed=1), task.train, 1, "fp32")
    assert len(list(tmp_path.glob("*.hidden"))) == 2
    assert np.array_equal(mapped, before)  # who has it mapped keeps it


def test_what_is_larger_than_the_budget_is_computed_each_time(tmp_path, backbone, task):
    cache = PrefixCache(tmp_path, 1e-6)
    assert cache.read(backbone, task.train, 1, "fp32") is None
    assert trained(backbone, task, config(epochs=1), cache).epochs
    assert not list(tmp_path.glob("*"))


def test_a_folder_that_cannot_be_written_costs_speed_alone(tmp_path, backbone, task):
    (tmp_path / "file").write_text("")
    cache = PrefixCache(tmp_path / "file" / "cache", 1)
    assert cache.read(backbone, task.train, 1, "fp32") is None


def _read(folder: Path) -> float:
    torch.set_num_threads(1)
    kept = PrefixCache(folder, 1).read(
        tiny_backbone(num_hidden_layers=3), toy_task(rows=32, validation_rows=16).train, 1, "fp32"
    )
    return float(np.abs(kept).sum())


@pytest.mark.integration
def test_two_writers_at_once_make_one_whole_file(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["transformers.models.bert.modeling_bert", "pipelines.encoder.prefix"])
    with context.Pool(2) as pool:
        sums = pool.map(_read, [tmp_path] * 4)
    assert len(set(sums)) == 1
    assert len(list(tmp_path.glob("*.hidden"))) == 1
