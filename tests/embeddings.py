"""Toy tasks with their texts, for the method `embeddings`."""

from typing import Any

import numpy as np
from tiny import MAX_TOKENS, tiny_backbone

from pipelines.encoder.backbone import Backbone
from pipelines.methods import EMBEDDINGS
from pipelines.tasks.encoded import EncodedTask, encode_task
from pipelines.tasks.labelled_rows import Examples
from pipelines.tasks.rows import TaskData
from pipelines.tasks.task import Task
from pipelines.towers.config import EmbeddingConfig
from pipelines.towers.training import EmbeddingTraining
from pipelines.towers.vectors import WordVectors

EITHER = {"lowercase": [False, True], "strip_non_alphanumerics": [False, True]}
_GOOD, _BAD = ("good", "great", "fine", "lovely"), ("bad", "awful", "poor", "sad")
_OTHERS = ("the", "screen", "was", "today", "and", "my")


def toy_data(kind: str = "classification", *, pairs: bool = False, rows: int = 60, seed: int = 0) -> TaskData:
    """Texts with good or bad words; of a pair, one text has them. A regression counts the good ones."""
    rng = np.random.default_rng(seed)
    splits = {}
    for name, count in (("train", rows), ("validation", 20), ("test", 20)):
        texts, labels = [], []
        for row in range(count):
            good = int(rng.integers(0, 5)) if kind == "regression" else 4 * (row % 2)
            words = [*rng.choice(_GOOD, good), *rng.choice(_BAD, 4 - good), *rng.choice(_OTHERS, 5)]
            text = " ".join(rng.permutation(words))
            texts.append((" ".join(rng.choice(_OTHERS, 3)), text) if pairs else (text,))
            labels.append(10.0 * good if kind == "regression" else row % 2)
        dtype = np.float64 if kind == "regression" else np.int64
        splits[name] = Examples(texts=tuple(texts), labels=np.array(labels, dtype=dtype))
    regression = kind == "regression"
    return TaskData(
        task=Task(
            name="toy",
            kind=kind,
            metric="spearman" if regression else "accuracy",
            text=("first", "second") if pairs else ("text",),
        ),
        labels=() if regression else ("bad", "good"),
        notes=(),
        fingerprint="toy",
        **splits,
    )


def toy_vectors(*, width: int = 8, name: str = "glove") -> WordVectors:
    """A vector for each telling word: good ones are near each other, and so are bad ones."""
    rng = np.random.default_rng(0)
    table = rng.normal(0, 0.1, (8, width))
    table[:4, 0] += 1
    table[4:, 1] += 1
    return WordVectors(name, (*_GOOD, *_BAD), table.astype(np.float32))


def encoded(data: TaskData, backbone: Backbone, **vectors: WordVectors) -> EncodedTask:
    task = encode_task(data, backbone, MAX_TOKENS)
    return EMBEDDINGS.prepare(task, data, backbone, searched=EITHER, vectors=vectors)


def config(**changes: Any) -> EmbeddingConfig:
    """Small towers, quickly trained."""
    small = {"hidden_size": 8, "convolution_filters": 4, "training_samples": 600, "batch_size": 10}
    return EmbeddingConfig(**{**small, **changes})


def training(
    changes: dict[str, Any] | None = None,
    *,
    data: TaskData | None = None,
    backbone: Backbone | None = None,
) -> EmbeddingTraining:
    """A training of `config`, not begun, with the toy vectors at hand."""
    backbone = backbone or tiny_backbone()
    vectors = {"glove": toy_vectors()}
    return EmbeddingTraining(
        backbone,
        encoded(data or toy_data(), backbone if backbone.tokenizer else tiny_backbone(), **vectors),
        config(**(changes or {})),
        precision="fp32",
        vectors=vectors,
    )
