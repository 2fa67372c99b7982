"""Span tasks are one more kind: encoded, trained, scored, written and read like the others."""

import numpy as np
import pytest
import torch
from tiny import MAX_TOKENS, save_tiny_encoder, toy_spans
from torch.nn import functional

from pipelines.bundle import AdapterBundle, write_bundle
from pipelines.bundle_files import BundleConfig
from pipelines.config import TrainConfig
from pipelines.encoder.backbone import load_backbone
from pipelines.errors import InputError
from pipelines.packs.prediction import predict
from pipelines.packs.trained import count_trained
from pipelines.packs.training import Training
from pipelines.tasks.encoded import encode_held_out, encode_task
from pipelines.tasks.span_rows import SpanExample

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return load_backbone(str(save_tiny_encoder(tmp_path_factory.mktemp("encoder"))))


@pytest.fixture(scope="module")
def data():
    return toy_spans(rows=96)


@pytest.fixture(scope="module")
def task(data, backbone):
    return encode_task(data, backbone, MAX_TOKENS)


def train(backbone, task, **changes):
    config = {"adapter_size": 8, "learning_rate": 1e-2, "batch_size": 8, "epochs": 4, "dropout": 0.0}
    run = Training(backbone, task, TrainConfig(**config | changes), precision="fp32")
    list(run.run())
    return run


@pytest.fixture(scope="module")
def trained(backbone, task):
    return train(backbone, task)


def test_a_toy_is_learnt_and_scored_by_both_official_metrics(trained):
    assert max(epoch.score for epoch in trained.epochs) >= 0.9
    assert all(epoch.scores.keys() == {"squad_f1", "squad_em"} for epoch in trained.epochs)
    assert all(epoch.score == epoch.scores["squad_f1"] for epoch in trained.epochs)
    assert trained.epochs[-1].train_loss < trained.epochs[0].train_loss / 2


def test_the_loss_is_the_mean_of_start_and_end_over_each_windows_own_tokens(trained, task):
    """Window by window without padding; whatever the head says of padding has no part in it."""
    indices = np.array([0, 3, 1])
    lengths = task.train.lengths[indices]
    outputs = torch.randn(3, int(lengths.max()) + 2, 2, generator=torch.Generator().manual_seed(0))
    expected = [
        functional.cross_entropy(own[:length, which], torch.tensor(int(target[which])))
        for own, length, target in zip(outputs, lengths, task.train_targets[indices], strict=True)
        for which in (0, 1)
    ]
    for row, length in enumerate(lengths):
        outputs[row, length:] = 50.0
    outputs.requires_grad_()
    loss = trained.loss(outputs, indices)
    assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert gradient.isfinite().all()
    assert all(not gradient[row, length:].any() for row, length in enumerate(lengths))


def test_the_test_set_is_not_in_what_a_trial_sees(data, task, backbone):
    contexts = {one.context for one in data.validation}
    assert {one.context for one in task.validation_targets.examples} == contexts
    tokens, questions = encode_held_out(data, backbone, MAX_TOKENS)["test"]
    assert len(tokens) == len(questions.windows)
    assert questions.examples == data.test


@pytest.mark.parametrize("method", ["fine_tune", "layer_norm"])
def test_other_methods_take_spans_too(backbone, task, method):
    run = train(backbone, task, method=method, epochs=1, learning_rate=3e-3)
    assert run.epochs[0].train_loss > 0


def test_a_bundle_answers_as_the_trained_model_does(trained, data, task, backbone, tmp_path):
    config = BundleConfig(
        backbone=backbone.name,
        backbone_fingerprint=backbone.fingerprint,
        task=task.name,
        kind=task.kind,
        text_columns=data.task.text,
        labels=task.labels,
        pooling=trained.model.pooling,
        max_tokens=MAX_TOKENS,
        train=trained.config,
    )
    write_bundle(tmp_path / "bundle", config, trained.best, metrics={}, card="")
    bundle = AdapterBundle.load(tmp_path / "bundle")
    pairs = [(one.question, one.context) for one in data.validation]
    found = bundle.predict(pairs, precision="fp32")
    trained.model.load(trained.best)
    outputs = predict(trained.model, task.validation, pad_id=0, precision="fp32")
    assert [one.label for one in found] == task.validation_targets.answers(outputs)
    assert [one.text for one in found] == pairs
    assert all(
        one.label in context and not one.scores for one, (_, context) in zip(found, pairs, strict=True)
    )
    right = [one.label == example.answers[0] for one, example in zip(found, data.validation, strict=True)]
    assert np.mean(right) >= 0.8
    assert bundle.predict([("what?", "")])[0].label == ""
    with pytest.raises(InputError, match=r"takes 2 text\(s\) an example: question, context"):
        bundle.predict(["what did you see?"])


def test_a_head_of_two_reads_every_token(trained, backbone, task):
    config = TrainConfig(adapter_size=8)
    one, two = (count_trained(backbone, config, outputs=width) for width in (1, task.outputs))
    assert two - one == backbone.width + 1
    assert predict(trained.model, task.train, pad_id=0, precision="fp32").shape == (len(task.train.ids), 2)


def with_long_answers(data, count):
    """The first training questions, answered with more words than a window of 24 tokens has."""
    words = " ".join(["the printer was very happy today"] * 6)
    long = [
        SpanExample(id=str(i), title="", context=words, question="what?", answers=(words,), starts=(0,))
        for i in range(count)
    ]
    rows = (*long, *data.train[count:])
    return type(data)(**{**vars(data), "train": rows})


def test_answers_without_a_window_are_counted_and_told(data, backbone):
    encoded = encode_task(with_long_answers(data, 3), backbone, 24)
    (note,) = encoded.notes
    assert note == "train: 3 of 96 questions have no window of 24 tokens with all of their answer"
    assert encode_task(data, backbone, MAX_TOKENS).notes == ()


def test_windows_too_short_for_every_answer_are_refused(data, backbone):
    hopeless = with_long_answers(data, len(data.train))
    for refuse in (encode_task, check_encoding):
        with pytest.raises(InputError, match="animals: no window of so many tokens holds a whole answer"):
            refuse(hopeless, backbone, 24)
    check_encoding(with_long_answers(data, len(data.train) - 1), backbone, 24)


def check_encoding(data, backbone, max_tokens):
    data.rules.check_encoding(data.train, backbone, max_tokens, data.task.name)
