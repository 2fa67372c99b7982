"""The methods that train something in the encoder, or around it. Free of torch until one is used."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.config import EncoderConfig, TrainConfig
from pipelines.method import HeldOut, Method, Outputs, TrainedModel, Training, Vectors

if TYPE_CHECKING:  # torch takes seconds to import
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pipelines.encoder.backbone import Backbone
    from pipelines.encoder.prefix import PrefixCache
    from pipelines.packs.trained import Trained
    from pipelines.tasks.encoded import EncodedTask
    from pipelines.tasks.kind import Kind, Targets
    from pipelines.tasks.rows import TaskData

SIZELESS = frozenset({"learning_rate", "epochs", "batch_size", "weight_decay", "dropout"})


@dataclass(frozen=True, kw_only=True)
class EncoderMethod(Method):
    """A method in the encoder: a row says which parts train; all else is the same for all.

    Attributes:
        parts: which parts of a backbone train with a configuration, beside the head. Raises InputError
            where the backbone does not have them.
        configuration: the class of its configurations.
        also_sizeless: those of its own parameters that do not decide how much trains.
    """

    parts: "Callable[[Backbone, Any], Trained]"
    configuration: type[EncoderConfig] = TrainConfig
    also_sizeless: frozenset[str] = frozenset()

    @property
    def sizeless(self) -> frozenset[str]:
        return SIZELESS | self.also_sizeless

    def config(self, params: Mapping[str, Any], *, seed: int) -> EncoderConfig:
        return self.configuration(method=self.name, seed=seed, **params)

    def config_from_dict(self, raw: Mapping[str, Any]) -> EncoderConfig:
        return self.configuration(**raw)

    def epochs(self, params: Mapping[str, Any]) -> int:
        return int(params.get("epochs", self.configuration.epochs))

    def count_trained(
        self, backbone: "Backbone", config: EncoderConfig, *, outputs: int, columns: int, vectors: Vectors
    ) -> int:
        from pipelines.packs.trained import count_trained

        return count_trained(backbone, config, outputs=outputs)

    def make_training(
        self,
        backbone: "Backbone",
        task: "EncodedTask",
        config: EncoderConfig,
        *,
        pooling: str,
        precision: str,
        vectors: Vectors,
        cache: "PrefixCache | None" = None,
        fused: bool = False,
    ) -> Training:
        from pipelines.packs.training import Training as EncoderTraining

        return EncoderTraining(
            backbone, task, config, pooling=pooling, precision=precision, cache=cache, fused=fused
        )

    def encode_held_out(
        self, data: "TaskData", backbone: "Backbone", max_tokens: int, config: EncoderConfig, vectors: Vectors
    ) -> "dict[str, tuple[HeldOut, Targets]]":
        from pipelines.tasks.encoded import encode_held_out

        return {**encode_held_out(data, backbone, max_tokens)}

    def open_trained(
        self,
        backbone: "Backbone",
        task: "EncodedTask",
        config: EncoderConfig,
        parameters: "Mapping[str, Tensor]",
        *,
        pooling: str,
        precision: str,
        vectors: Vectors,
    ) -> Outputs:
        from pipelines.packs.model import build_model
        from pipelines.packs.prediction import predict

        model = build_model(
            backbone, config, outputs=task.outputs, pooling=pooling, spans=task.rules.per_token
        )
        model.load({**parameters})

        def outputs(held_out: HeldOut) -> "NDArray[np.float64]":
            return predict(model, held_out, pad_id=backbone.pad_id, precision=precision)

        return outputs

    def different_tensors(
        self,
        backbone: "Backbone",
        config: EncoderConfig,
        tensors: "Mapping[str, Tensor]",
        *,
        outputs: int,
        columns: int,
    ) -> list[str]:
        from pipelines.packs.trained import trained_shapes

        expected = trained_shapes(backbone, config, outputs=outputs)
        held = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        return sorted(dict(expected.items() ^ held.items()))

    def open_bundle(
        self,
        backbone: "Backbone",
        config: EncoderConfig,
        tensors: "Mapping[str, Tensor]",
        *,
        outputs: int,
        rules: "Kind",
        pooling: str,
        max_tokens: int,
    ) -> TrainedModel:
        from pipelines.packs.bundle import TrainedEncoder
        from pipelines.packs.model import build_model

        model = build_model(backbone, config, outputs=outputs, pooling=pooling, spans=rules.per_token)
        model.load({**tensors})
        return TrainedEncoder(backbone, model, rules=rules, max_tokens=max_tokens)
