"""The method `probe`: from texts to a fitted model, its checkpoint and its bundle."""

import numpy as np
import pytest
import torch
from embeddings import toy_data
from tiny import MAX_TOKENS, tiny_backbone, toy_spans

from pipelines.bundle import AdapterBundle, write_bundle
from pipelines.bundle_files import BundleConfig
from pipelines.checkpoint import dump_state, load_state
from pipelines.encoder.prefix import PrefixCache
from pipelines.epochs import predicted
from pipelines.errors import InputError
from pipelines.method import METHODS
from pipelines.methods import EMBEDDINGS, PROBE
from pipelines.probe.config import ProbeConfig
from pipelines.probe.features import AS_WRITTEN, features, read_columns
from pipelines.probe.training import ProbeTraining
from pipelines.tasks.encoded import encode_task

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def encoded(data, backbone):
    task = encode_task(data, backbone, MAX_TOKENS)
    return PROBE.prepare(task, data, backbone, searched={}, vectors={})


def training(data, backbone, **changes):
    cache = changes.pop("cache", None)
    task, config = encoded(data, backbone), ProbeConfig(**changes)
    return ProbeTraining(backbone, task, config, precision="fp32", cache=cache)


def test_a_text_s_vector_is_the_mean_of_what_the_encoder_makes_of_its_tokens(backbone):
    texts = read_columns([("good day",), ("the screen was bad today",)], backbone.tokenizer, MAX_TOKENS)
    found = features(backbone, texts, pooling="mean", precision="fp32")
    for row, text in enumerate(["good day", "the screen was bad today"]):
        with torch.no_grad():
            hidden = backbone.model(**backbone.tokenizer(text, return_tensors="pt")).last_hidden_state
        np.testing.assert_allclose(found[row], hidden[0].mean(0), atol=1e-5)


def test_a_pair_s_features_are_both_vectors_their_distance_and_their_product(backbone):
    def read(*rows):
        texts = read_columns([*rows], backbone.tokenizer, MAX_TOKENS)
        return features(backbone, texts, pooling="cls", precision="fp32")

    (pair,), (first, second) = read(("good", "bad day")), read(("good",), ("bad day",))
    np.testing.assert_allclose(
        pair, np.concatenate([first, second, np.abs(first - second), first * second]), atol=1e-5
    )


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_it_learns_what_words_tell(backbone, kind, pairs):
    fitted = training(toy_data(kind, pairs=pairs, rows=160), backbone)
    (result,) = fitted.run()
    assert result.score > 0.8
    assert result.epoch == 1
    assert fitted.finished
    assert fitted.trained_parameters == PROBE.count_trained(
        backbone, fitted.config, outputs=fitted.task.outputs, columns=1 + pairs, vectors={}
    )
    assert fitted.trained_parameters == sum(
        tensor.numel() for name, tensor in fitted.best.items() if name.startswith("head.")
    )


def test_the_encoder_is_left_as_it_is(backbone):
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    list(training(toy_data(), backbone).run())
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.model.state_dict().items())


def test_it_is_fitted_once_and_goes_on_from_its_checkpoint(backbone):
    fitted = training(toy_data(), backbone)
    list(fitted.run())
    again = training(toy_data(), backbone)
    again.restore(load_state(dump_state(fitted.state())))
    assert again.finished
    assert list(again.run()) == []
    assert again.epochs == fitted.epochs
    assert all(torch.equal(again.best[name], tensor) for name, tensor in fitted.best.items())
    outputs = predicted(again.state())
    assert fitted.task.score(outputs, fitted.task.validation_targets) == fitted.epochs[0].scores


def test_vectors_are_computed_once_and_read_by_the_next(backbone, tmp_path, monkeypatch):
    cache = PrefixCache(tmp_path, gigabytes=1)
    first = list(training(toy_data(), backbone, cache=cache).run())
    monkeypatch.setattr("pipelines.encoder.prefix.sentence_vectors", None)  # none is computed again
    second = list(training(toy_data(), backbone, cache=PrefixCache(tmp_path, gigabytes=1)).run())
    assert first[0].scores == second[0].scores


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_bundle_says_what_the_training_said(backbone, tmp_path, kind, pairs):
    data = toy_data(kind, pairs=pairs)
    fitted = training(data, backbone)
    (result,) = fitted.run()
    (held_out, targets) = PROBE.encode_held_out(data, backbone, MAX_TOKENS, fitted.config, {})["test"]
    model = PROBE.open_trained(
        backbone, fitted.task, fitted.config, fitted.best, pooling="cls", precision="fp32", vectors={}
    )
    said = model(held_out)
    config = BundleConfig(
        backbone=backbone.name,
        backbone_fingerprint=backbone.fingerprint,
        task="toy",
        kind=kind,
        text_columns=data.task.text,
        labels=data.labels,
        pooling="cls",
        max_tokens=MAX_TOKENS,
        train=fitted.config,
        target_mean=fitted.task.scale.mean,
        target_std=fitted.task.scale.std,
    )
    write_bundle(tmp_path / "bundle", config, fitted.best, metrics={}, card="# card")
    opened = AdapterBundle.load(tmp_path / "bundle", backbone=backbone)
    np.testing.assert_allclose(opened.outputs(data.test.texts, precision="fp32"), said, atol=1e-5)
    validated = opened.outputs(data.validation.texts, precision="fp32")
    assert fitted.task.score(validated, fitted.task.validation_targets) == pytest.approx(result.scores)
    assert len(targets) == len(said)


def test_it_stands_beside_the_readings_of_other_methods(backbone):
    data = toy_data()
    task = encode_task(data, backbone, MAX_TOKENS)
    for order in ([PROBE, EMBEDDINGS], [EMBEDDINGS, PROBE]):
        both = task
        for method in order:
            both = method.prepare(both, data, backbone, searched={}, vectors={})
        assert {*both.texts.train.tokens} == {AS_WRITTEN, (True, False)}
        assert {*both.texts.validation.tokens} == {AS_WRITTEN, (True, False)}


def test_a_task_of_places_in_a_text_is_refused_by_name(backbone):
    with pytest.raises(InputError, match="asks for spans") as caught:
        PROBE.check_data(toy_spans())
    assert "a job of their own" in caught.value.fix


def test_a_pooler_that_the_encoder_lacks_is_refused():
    without = tiny_backbone("distilbert")
    config = METHODS["probe"].config({"pooling": "pooler"}, seed=0)
    with pytest.raises(InputError, match="has no trained pooler"):
        PROBE.count_trained(without, config, outputs=2, columns=1, vectors={})


@pytest.mark.parametrize("changes", [{"pooling": "max"}, {"seed": -1}, {"method": "adapter"}])
def test_what_a_probe_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match="out of range"):
        ProbeConfig(**changes)


def test_an_empty_text_has_a_vector_too(backbone):
    texts = read_columns([("a " * 30,), ("",)], backbone.tokenizer, MAX_TOKENS)
    assert np.isfinite(features(backbone, texts, pooling="mean", precision="fp32")).all()
