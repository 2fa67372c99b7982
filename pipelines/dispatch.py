"""The methods side by side: what trains in the encoder, and towers over embeddings.

Whoever deals with trials of every method asks here; nothing else looks at which method one has.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipelines.config import Config, TrainConfig, vectors_of
from pipelines.encoder.backbone import Backbone
from pipelines.encoder.prefix import PrefixCache
from pipelines.encoder.tokens import Reading, TaskTexts, Texts, Tokens
from pipelines.errors import InputError
from pipelines.packs.model import build_model
from pipelines.packs.pack import predict
from pipelines.packs.trained import count_trained as count_in_encoder
from pipelines.packs.training import Training
from pipelines.tasks.encoded import EncodedTask
from pipelines.tasks.encoded import encode_held_out as encode_for_encoder
from pipelines.tasks.kind import Targets
from pipelines.tasks.rows import TaskData
from pipelines.towers.config import EmbeddingConfig
from pipelines.towers.model import Source, Vectors, count_trained_embeddings, trained_outputs
from pipelines.towers.texts import framing_tokens, read_texts
from pipelines.towers.training import EmbeddingTraining
from pipelines.towers.vectors import vector_tensors

AnyTraining = Training | EmbeddingTraining
HeldOut = Tokens | Texts  # a set in the form that a method's model reads


class Outputs(Protocol):
    """A trained model: the head's outputs (n, outputs) for a set."""

    def __call__(self, held_out: HeldOut) -> NDArray[np.float64]: ...


def make_training(
    backbone: Backbone,
    task: EncodedTask,
    config: Config,
    *,
    pooling: str,
    precision: str,
    vectors: Vectors,
    cache: PrefixCache | None = None,
) -> AnyTraining:
    """The training of a configuration, not begun. Raises InputError if it does not fit."""
    if isinstance(config, EmbeddingConfig):
        return EmbeddingTraining(
            backbone, task, config, pooling=pooling, precision=precision, vectors=vectors, cache=cache
        )
    return Training(backbone, task, config, pooling=pooling, precision=precision, cache=cache)


def count_trained(backbone: Backbone, config: Config, *, outputs: int, columns: int, vectors: Vectors) -> int:
    """How many parameters train.

    Args:
        columns: 1, or 2 for pairs.

    Raises:
        InputError: the configuration does not fit the backbone, or names vectors that are not there.
    """
    if isinstance(config, EmbeddingConfig):
        return count_trained_embeddings(backbone, config, outputs=outputs, columns=columns, vectors=vectors)
    return count_in_encoder(backbone, config, outputs=outputs)


def add_texts(
    task: EncodedTask,
    data: TaskData,
    backbone: Backbone,
    *,
    readings: Collection[Reading],
    vectors: Vectors,
) -> EncodedTask:
    """An encoded task with its texts, for the method `embeddings`. Raises InputError for span tasks."""
    check_texts(data)
    train, validation = (
        read_texts(split.texts, backbone.tokenizer, task.max_tokens, readings=readings, vectors=vectors)
        for split in (data.train, data.validation)
    )
    return replace(task, texts=TaskTexts(train, validation, framing_tokens(backbone.tokenizer)))


def check_texts(data: TaskData) -> None:
    """Raise InputError for a task whose head reads every token: towers see texts as a whole."""
    if data.rules.per_token:
        kind = data.task.kind
        rule = f"task {data.task.name!r} asks for {kind}s, and towers see no places in a text"
        raise InputError("method", "embeddings", rule, f"Give {kind} tasks a job of their own, without it.")


def encode_held_out(
    data: TaskData, backbone: Backbone, max_tokens: int, config: Config, vectors: Vectors
) -> dict[str, tuple[HeldOut, Targets]]:
    """Encode, after selection, what no search has seen, for the winner's configuration.

    Returns the test set as "test", and a task's further labelled sets by their names; each with what its
    outputs are scored against.
    """
    if isinstance(config, TrainConfig):
        return {**encode_for_encoder(data, backbone, max_tokens)}
    check_texts(data)
    used = {name: vectors[name] for name in vectors_of(config)}
    return {
        name: (
            read_texts(split.texts, backbone.tokenizer, max_tokens, readings=[config.reading], vectors=used),
            split.labels,
        )
        for name, split in data.held_out.items()
    }


def open_trained(
    backbone: Backbone,
    task: EncodedTask,
    config: Config,
    parameters: Mapping[str, Tensor],
    *,
    pooling: str,
    precision: str,
    vectors: Vectors,
) -> Outputs:
    """The model of a finished trial.

    Args:
        parameters: `TrainingState.best`.
        precision: resolved.
    """
    if isinstance(config, EmbeddingConfig):
        framing = () if task.texts is None else task.texts.framing
        source = Source(
            backbone, config, framing=framing, pooling=pooling, precision=precision, vectors=vectors
        )

        def of_towers(held_out: HeldOut) -> NDArray[np.float64]:
            return trained_outputs(source, config, parameters, cast(Texts, held_out))

        return of_towers
    model = build_model(backbone, config, outputs=task.outputs, pooling=pooling, spans=task.rules.per_token)
    model.load(dict(parameters))

    def of_encoder(held_out: HeldOut) -> NDArray[np.float64]:
        return predict(model, cast(Tokens, held_out), pad_id=backbone.pad_id, precision=precision)

    return of_encoder


def bundle_tensors(config: Config, parameters: Mapping[str, Tensor], vectors: Vectors) -> dict[str, Tensor]:
    """What a bundle holds of a trial: what it trained, and the word vectors that it read."""
    tensors = dict(parameters)
    for name in vectors_of(config):
        tensors |= vector_tensors(vectors[name])
    return tensors
