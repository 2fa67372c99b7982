"""The method of towers over embeddings: no encoder trained. Free of torch until it is used."""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipelines.method import HeldOut, Method, Outputs, TrainedModel, Training, Vectors
from pipelines.towers.config import PARTS, SENTENCE, TOKEN_TABLE, EmbeddingConfig

if TYPE_CHECKING:  # torch takes seconds to import
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pipelines.encoder.backbone import Backbone
    from pipelines.encoder.prefix import PrefixCache
    from pipelines.encoder.tokens import Reading
    from pipelines.tasks.encoded import EncodedTask
    from pipelines.tasks.kind import Kind, Targets
    from pipelines.tasks.rows import TaskData

_READING = ("lowercase", "strip_non_alphanumerics")  # the parameters that decide how a text is read
_SIZELESS = frozenset(
    {
        *_READING,
        *("batch_size", "training_samples"),
        *("convolution_activation", "convolution_dropout", "embedding_dropout"),
        *("hidden_activation", "hidden_dropout"),
        *("deep_learning_rate", "deep_regularisation", "wide_learning_rate", "wide_regularisation"),
    }
)


@dataclass(frozen=True, kw_only=True)
class TowerMethod(Method):
    """A deep and a wide tower (Houlsby et al. 2019, Table 5)."""

    @property
    def sizeless(self) -> frozenset[str]:
        return _SIZELESS

    def config(self, params: Mapping[str, Any], *, seed: int) -> EmbeddingConfig:
        return EmbeddingConfig(method=self.name, seed=seed, **params)

    def config_from_dict(self, raw: Mapping[str, Any]) -> EmbeddingConfig:
        return EmbeddingConfig(**raw)

    def epochs(self, params: Mapping[str, Any]) -> int:
        return PARTS

    def vectors_of(self, config: Any) -> tuple[str, ...]:
        return () if config.embedding in (TOKEN_TABLE, SENTENCE) else (config.embedding,)

    def prepare(
        self,
        task: "EncodedTask",
        data: "TaskData",
        backbone: "Backbone",
        *,
        searched: Mapping[str, Collection[object]],
        vectors: Vectors,
    ) -> "EncodedTask":
        """With its texts in each reading that a trial may have."""
        from pipelines.encoder.tokens import TaskTexts, framing_tokens
        from pipelines.towers.texts import read_texts

        self.check_data(data)
        readings = self.readings(searched)
        train, validation = (
            read_texts(split.texts, backbone.tokenizer, task.max_tokens, readings=readings, vectors=vectors)
            for split in (data.train, data.validation)
        )
        texts = TaskTexts(train, validation, framing_tokens(backbone.tokenizer))
        return replace(task, texts=texts.beside(task.texts))

    def readings(self, searched: Mapping[str, Collection[object]]) -> "set[Reading]":
        """The ways in which trials read a text, as `prepare` is told of them."""
        axes = []
        for name in _READING:
            default = getattr(EmbeddingConfig, name)
            values = searched.get(name, (None,))
            axes.append({default if value is None else bool(value) for value in values})
        return set(itertools.product(axes[0], axes[1]))

    def count_trained(
        self, backbone: "Backbone", config: EmbeddingConfig, *, outputs: int, columns: int, vectors: Vectors
    ) -> int:
        from pipelines.towers.model import count_trained_embeddings

        return count_trained_embeddings(backbone, config, outputs=outputs, columns=columns, vectors=vectors)

    def make_training(
        self,
        backbone: "Backbone",
        task: "EncodedTask",
        config: EmbeddingConfig,
        *,
        pooling: str,
        precision: str,
        vectors: Vectors,
        cache: "PrefixCache | None" = None,
        fused: bool = False,
    ) -> Training:
        from pipelines.towers.training import EmbeddingTraining

        return EmbeddingTraining(
            backbone, task, config, pooling=pooling, precision=precision, vectors=vectors, cache=cache
        )

    def encode_held_out(
        self,
        data: "TaskData",
        backbone: "Backbone",
        max_tokens: int,
        config: EmbeddingConfig,
        vectors: Vectors,
    ) -> "dict[str, tuple[HeldOut, Targets]]":
        from pipelines.towers.texts import read_texts

        self.check_data(data)
        used = {name: vectors[name] for name in self.vectors_of(config)}
        readings = [config.reading]
        return {
            name: (
                read_texts(split.texts, backbone.tokenizer, max_tokens, readings=readings, vectors=used),
                split.labels,
            )
            for name, split in data.held_out.items()
        }

    def open_trained(
        self,
        backbone: "Backbone",
        task: "EncodedTask",
        config: EmbeddingConfig,
        parameters: "Mapping[str, Tensor]",
        *,
        pooling: str,
        precision: str,
        vectors: Vectors,
    ) -> Outputs:
        from pipelines.towers.model import Source, trained_outputs

        framing = () if task.texts is None else task.texts.framing
        source = Source(
            backbone, config, framing=framing, pooling=pooling, precision=precision, vectors=vectors
        )

        def outputs(held_out: HeldOut) -> "NDArray[np.float64]":
            return trained_outputs(source, config, parameters, held_out)

        return outputs

    def bundle_tensors(
        self, config: EmbeddingConfig, parameters: "Mapping[str, Tensor]", vectors: Vectors
    ) -> "dict[str, Tensor]":
        """The word vectors that it read among them."""
        from pipelines.towers.vectors import vector_tensors

        tensors = {**parameters}
        for name in self.vectors_of(config):
            tensors |= vector_tensors(vectors[name])
        return tensors

    def different_tensors(
        self,
        backbone: "Backbone",
        config: EmbeddingConfig,
        tensors: "Mapping[str, Tensor]",
        *,
        outputs: int,
        columns: int,
    ) -> list[str]:
        from pipelines.towers.bundle import different_tensors

        return different_tensors(backbone, config, tensors, columns=columns, outputs=outputs)

    def open_bundle(
        self,
        backbone: "Backbone",
        config: EmbeddingConfig,
        tensors: "Mapping[str, Tensor]",
        *,
        outputs: int,
        rules: "Kind",
        pooling: str,
        max_tokens: int,
    ) -> TrainedModel:
        from pipelines.towers.bundle import TrainedTowers

        return TrainedTowers(backbone, config, tensors, pooling=pooling, max_tokens=max_tokens)
