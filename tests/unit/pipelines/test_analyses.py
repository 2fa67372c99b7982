"""Ablation against bundles whose adapters are really not there, and how much of it is computed."""

import itertools

import numpy as np
import pytest
from tiny import bundle_config, tiny_backbone, toy_task

from pipelines.analyses import ablate, span_outputs
from pipelines.bundle import AdapterBundle
from pipelines.config import TrainConfig
from pipelines.encoder.architectures import ARCHITECTURES, layer_paths
from pipelines.errors import InputError
from pipelines.packs.bundle import TrainedEncoder
from pipelines.packs.model import build_model
from pipelines.packs.prediction import predict

TASK = toy_task(rows=8, validation_rows=20)
ROWS = [
    ("good great day",),
    ("bad",),
    ("the worst awful printer today and very sad",),
    ("my office is fine",),
]


def bundle_of(backbone, *, seed=0, pooling="cls", **changes):
    """A bundle in memory whose adapters are far from the identity."""
    train = TrainConfig(adapter_size=4, init_std=0.5, seed=seed, **changes)
    model = build_model(backbone, train, outputs=2, pooling=pooling)
    config = bundle_config(backbone, train, pooling=pooling)
    return AdapterBundle(
        config, backbone, TrainedEncoder(backbone, model, rules=config.rules, max_tokens=config.max_tokens)
    )


def outputs_without(bundle, span):
    """The outputs with the adapters of these layers set to nothing, by a plain evaluation."""
    plain = build_model(bundle.backbone, bundle.config.train, outputs=2, pooling=bundle.config.pooling)
    for name, tensor in plain.trained().items():
        if name.startswith("adapter.") and span[0] <= int(name.split(".")[1]) <= span[1]:
            tensor.zero_()
    return predict(plain, TASK.validation, pad_id=bundle.backbone.pad_id, precision="fp32")


KINDS = sorted(set(ARCHITECTURES) - {"albert", "electra", "roberta", "xlm-roberta"})  # those are as BERT


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        *((kind, {}) for kind in KINDS),
        ("bert", {"pooling": "mean"}),
        ("bert", {"adapter_placement": "parallel"}),
    ],
)
def test_a_span_scores_as_a_model_whose_adapters_there_are_nothing(kind, changes):
    depth = "n_layers" if kind == "distilbert" else "num_hidden_layers"
    bundle = bundle_of(tiny_backbone(kind, **{depth: 3}), **changes)
    layers = range(3)
    found = span_outputs(bundle, TASK.validation, layers, "fp32")
    assert set(found) == {None, *((a, b) for a, b in itertools.product(layers, layers) if a <= b)}
    for span, outputs in found.items():
        expected = outputs_without(bundle, span or (9, 9))
        np.testing.assert_allclose(outputs, expected, atol=1e-5)
    whole = found[None]
    assert all(np.abs(outputs - whole).max() > 1e-3 for span, outputs in found.items() if span)


@pytest.mark.integration
@pytest.mark.parametrize(("depth", "passes"), [(1, 2), (4, 24), (12, 376)])
def test_layers_are_computed_as_seldom_as_they_can_be(depth, passes):
    """Each span (first, last) needs the layers from last up alone: 12 + 364 of 78 x 12 for 12 layers."""
    bundle = bundle_of(tiny_backbone(num_hidden_layers=depth))
    calls = []
    encoder = bundle.model.encoder
    for path in layer_paths(bundle.backbone.architecture, encoder):
        encoder.get_submodule(path).register_forward_hook(lambda *_: calls.append(1))
    span_outputs(bundle, TASK.validation, range(depth), "fp32")
    assert len(calls) == passes


def test_only_layers_with_adapters_are_ablated_and_the_model_is_left_as_it_was():
    bundle = bundle_of(tiny_backbone(num_hidden_layers=5), first_layer=1, last_layer=3)
    before = bundle.outputs(ROWS, precision="fp32")
    scores = iter(itertools.count())
    found = ablate(bundle, ROWS, lambda _: float(next(scores)), precision="fp32")
    assert found.layers == (1, 2, 3)
    assert (found.full, found.examples) == (0.0, 4)
    assert list(found.scores) == [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3)]
    assert np.array_equal(bundle.outputs(ROWS, precision="fp32"), before)


def test_what_cannot_be_ablated_is_refused():
    with pytest.raises(InputError, match="share their weights"):
        ablate(bundle_of(tiny_backbone("albert")), ROWS, lambda _: 0.0)
    with pytest.raises(InputError, match="no adapters to remove"):
        ablate(bundle_of(tiny_backbone(), method="layer_norm"), ROWS, lambda _: 0.0)
