"""A kind and metrics that only this file knows go from rows to predictions: nothing else has to be told."""

import json

import numpy as np
import pytest
from tiny import MAX_TOKENS, save_tiny_encoder, tiny_backbone, toy_task, training

from pipelines import AdapterBundle, Task, TrainConfig, Training, encode_task, load_backbone, read_task
from pipelines.bundle import write_bundle
from pipelines.bundle_files import BundleConfig
from pipelines.kinds import KINDS, register_kind
from pipelines.kinds.labelled import Labelled
from pipelines.metrics import METRICS, Metric, register_metric
from pipelines.tasks.labelled_rows import Examples
from pipelines.tasks.task import Files


class Tags(Labelled):
    """Any number of tags for a text, written `a|b`; targets (rows, tags) are 0 or 1."""

    name = "tags"
    label = "tags"

    def class_names(self, tables, task):
        return tuple(
            sorted({tag for table in tables.values() for cell in table.labels for tag in tags_of(cell)})
        )

    def examples(self, table, labels):
        hot = [[float(label in tags_of(cell)) for label in labels] for cell in table.labels]
        return Examples(texts=tuple(zip(*table.texts, strict=True)), labels=np.array(hot))

    def outputs(self, labels):
        return len(labels)

    def loss_targets(self, targets, scale):
        import torch

        return torch.from_numpy(targets).float()

    def loss(self, outputs, targets, lengths=None):
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(outputs, targets)

    def view(self, of, outputs, targets, scale):
        return {"tags": outputs > 0}[of]

    def answers(self, outputs, targets, labels, scale):
        chances = 1 / (1 + np.exp(-outputs))
        return [
            (
                "|".join(label for label, chance in zip(labels, row, strict=True) if chance > 0.5),
                dict(zip(labels, row.tolist(), strict=True)),
            )
            for row in chances
        ]

    def describe(self, labels):
        return f"Tags: {', '.join(labels)}."


def tags_of(cell):
    return cell.split("|")


def exact(targets, predictions):
    return np.mean((np.asarray(targets) == np.asarray(predictions)).all(axis=1))


def brier(targets, predictions):
    """The mean squared distance of the probabilities from what is right."""
    return np.mean(np.sum((predictions - np.eye(predictions.shape[1])[targets]) ** 2, axis=1))


@pytest.fixture
def tables():
    """The tables, which are afterwards as they were."""
    kept = [(table, dict(table)) for table in (KINDS, METRICS)]
    yield
    for table, content in kept:
        table.clear()
        table.update(content)


@pytest.fixture
def tagged(tables):
    register_kind(Tags())
    register_metric(Metric(name="exact", kinds=("tags",), of="tags", function=exact))


ROWS = [
    {"text": f"the printer was {' and '.join(words)}", "tags": "|".join(words)}
    for words in (["good"], ["happy"], ["good", "happy"], ["sad"]) * 12
]


def tagged_task(tmp_path, **changes):
    path = tmp_path / "tags.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return Task(
        name="moods", text=("text",), label="tags", kind="tags", files=Files(train=str(path)), **changes
    )


@pytest.mark.integration
def test_a_made_up_kind_goes_from_rows_to_predictions(tagged, tmp_path):
    data = read_task(tagged_task(tmp_path))
    assert data.labels == ("good", "happy", "sad")
    assert data.outputs == 3
    backbone = load_backbone(str(save_tiny_encoder(tmp_path / "encoder")))
    task = encode_task(data, backbone, MAX_TOKENS)
    run = Training(
        backbone,
        task,
        TrainConfig(method="fine_tune", learning_rate=3e-3, epochs=12, batch_size=8),
        precision="fp32",
    )
    results = list(run.run())
    assert results[-1].train_loss < results[0].train_loss
    assert max(result.score for result in results) == max(result.scores["exact"] for result in results)
    config = BundleConfig(
        backbone=backbone.name,
        backbone_fingerprint=backbone.fingerprint,
        task=task.name,
        kind=task.kind,
        text_columns=data.task.text,
        labels=task.labels,
        pooling=run.model.pooling,
        max_tokens=MAX_TOKENS,
        train=run.config,
    )
    write_bundle(tmp_path / "bundle", config, run.best, metrics={}, card=data.rules.describe(data.labels))
    texts = [text for (text,) in data.test.texts]
    predictions = AdapterBundle.load(tmp_path / "bundle").predict(texts, precision="fp32")
    right = [
        {*tags_of(one.label)} == {*np.array(task.labels)[hot > 0]}
        for one, hot in zip(predictions, data.test.labels, strict=True)
    ]
    assert np.mean(right) > 0.5
    assert [*predictions[0].scores] == ["good", "happy", "sad"]


def test_a_made_up_kind_has_its_metric_as_default_and_refuses_others(tagged, tmp_path):
    assert tagged_task(tmp_path).metric == "exact"
    with pytest.raises(ValueError, match=r"metric = 'accuracy': does not score a tags\. Known: 'exact'"):
        tagged_task(tmp_path, metric="accuracy")


def test_a_made_up_metric_reads_probabilities_and_lower_is_better(tables):
    register_metric(
        Metric(
            name="brier",
            kinds=("classification",),
            of="probabilities",
            function=brier,
            better="lower",
            range=(0.0, 2.0),
        )
    )
    task = toy_task(rows=48, validation_rows=24)
    task = type(task)(**{**vars(task), "metric": "brier", "metrics": ("brier", "accuracy")})
    run = training(tiny_backbone(), task, learning_rate=3e-2)
    results = list(run.run())
    assert all(result.score == -result.scores["brier"] for result in results)
    assert all(0 < result.scores["brier"] < 2 for result in results)
    best = min(results, key=lambda result: result.scores["brier"])
    assert max(results, key=lambda result: result.score) is best


def test_two_of_one_name_are_refused(tables):
    with pytest.raises(ValueError, match="kind 'span' is registered twice; rename one of them"):
        register_kind(type(KINDS["span"])())
    with pytest.raises(ValueError, match="metric 'f1' is registered twice; rename one of them"):
        register_metric(METRICS["f1"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"function": None}, "metric 'new' has no function; give it one"),
        ({"kinds": ()}, "metric 'new' scores no kind of task; name them as a tuple"),
        ({"kinds": "span"}, "metric 'new' scores no kind of task; name them as a tuple"),
    ],
)
def test_a_metric_that_scores_nothing_is_refused(tables, changes, message):
    fields = {"name": "new", "kinds": ("span",), "of": "answers", "function": exact, **changes}
    with pytest.raises(ValueError, match=message):
        register_metric(Metric(**fields))
    assert "new" not in METRICS
