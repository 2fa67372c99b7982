"""The method of a linear model on the frozen encoder's vectors. Free of torch until it is used."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipelines.method import HeldOut, Method, Outputs, TrainedModel, Training, Vectors
from pipelines.probe.config import ProbeConfig

if TYPE_CHECKING:  # torch takes seconds to import
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pipelines.encoder.backbone import Backbone
    from pipelines.encoder.prefix import PrefixCache
    from pipelines.tasks.encoded import EncodedTask
    from pipelines.tasks.kind import Kind, Targets
    from pipelines.tasks.rows import TaskData


@dataclass(frozen=True, kw_only=True)
class ProbeMethod(Method):
    """Logistic regression for classes, ridge for numbers: a linear probe (Alain and Bengio 2016)."""

    @property
    def sizeless(self) -> frozenset[str]:
        return frozenset({"pooling"})

    def config(self, params: Mapping[str, Any], *, seed: int) -> ProbeConfig:
        return ProbeConfig(method=self.name, seed=seed, **params)

    def config_from_dict(self, raw: Mapping[str, Any]) -> ProbeConfig:
        return ProbeConfig(**raw)

    def epochs(self, params: Mapping[str, Any]) -> int:
        return ProbeConfig.epochs

    def prepare(
        self,
        task: "EncodedTask",
        data: "TaskData",
        backbone: "Backbone",
        *,
        searched: Mapping[str, Collection[object]],
        vectors: Vectors,
    ) -> "EncodedTask":
        """With its texts as they are written, beside other methods' readings of them."""
        from pipelines.encoder.tokens import TaskTexts, framing_tokens
        from pipelines.probe.features import fitted_rows, read_columns

        self.check_data(data)
        rows = fitted_rows(len(data.train))
        fitted = [data.train.texts[row] for row in rows]
        train, validation = (
            read_columns(texts, backbone.tokenizer, task.max_tokens)
            for texts in (fitted, data.validation.texts)
        )
        texts = TaskTexts(
            train,
            validation,
            framing_tokens(backbone.tokenizer),
            rows if len(rows) < len(data.train) else None,
        )
        return replace(task, texts=texts.beside(task.texts))

    def count_trained(
        self, backbone: "Backbone", config: ProbeConfig, *, outputs: int, columns: int, vectors: Vectors
    ) -> int:
        from pipelines.probe.features import count_head

        backbone.pooling(config.pooling)
        return count_head(backbone, outputs=outputs, columns=columns)

    def make_training(
        self,
        backbone: "Backbone",
        task: "EncodedTask",
        config: ProbeConfig,
        *,
        pooling: str,
        precision: str,
        vectors: Vectors,
        cache: "PrefixCache | None" = None,
        fused: bool = False,
    ) -> Training:
        from pipelines.probe.training import ProbeTraining

        return ProbeTraining(backbone, task, config, precision=precision, cache=cache)

    def encode_held_out(
        self, data: "TaskData", backbone: "Backbone", max_tokens: int, config: ProbeConfig, vectors: Vectors
    ) -> "dict[str, tuple[HeldOut, Targets]]":
        from pipelines.probe.features import read_columns

        self.check_data(data)
        return {
            name: (read_columns(split.texts, backbone.tokenizer, max_tokens), split.labels)
            for name, split in data.held_out.items()
        }

    def open_trained(
        self,
        backbone: "Backbone",
        task: "EncodedTask",
        config: ProbeConfig,
        parameters: "Mapping[str, Tensor]",
        *,
        pooling: str,
        precision: str,
        vectors: Vectors,
    ) -> Outputs:
        from pipelines.probe.features import features, outputs

        pooled = backbone.pooling(config.pooling)

        def model(held_out: HeldOut) -> "NDArray[np.float64]":
            return outputs(parameters, features(backbone, held_out, pooling=pooled, precision=precision))

        return model

    def different_tensors(
        self,
        backbone: "Backbone",
        config: ProbeConfig,
        tensors: "Mapping[str, Tensor]",
        *,
        outputs: int,
        columns: int,
    ) -> list[str]:
        from pipelines.probe.features import BIAS, STRENGTH, WEIGHT, width

        expected = {WEIGHT: (outputs, width(backbone, columns)), BIAS: (outputs,), STRENGTH: (1,)}
        held = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        return sorted(dict(expected.items() ^ held.items()))

    def open_bundle(
        self,
        backbone: "Backbone",
        config: ProbeConfig,
        tensors: "Mapping[str, Tensor]",
        *,
        outputs: int,
        rules: "Kind",
        pooling: str,
        max_tokens: int,
    ) -> TrainedModel:
        from pipelines.probe.bundle import TrainedProbe

        return TrainedProbe(backbone, config, tensors, max_tokens=max_tokens)
