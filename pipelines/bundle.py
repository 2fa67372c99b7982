"""The bundle: an exported adapter with all that is needed to use it, and nothing of the backbone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.bundle_files import BundleConfig, read_files, write_files
from pipelines.encoder.backbone import Backbone, load_backbone
from pipelines.errors import BundleError, InputError
from pipelines.files import CONFIG, WEIGHTS
from pipelines.method import TrainedModel, find_method
from pipelines.packs.bundle import TrainedEncoder
from pipelines.packs.model import PackModel
from pipelines.texts import has_surrogate


@dataclass(frozen=True)
class Prediction:
    """One text's prediction. `label` is what the kind answers: a class name, a number, or for spans a text.

    `scores` are probabilities by class name, empty for regression and spans.
    """

    text: str | tuple[str, ...]
    label: str | float
    scores: Mapping[str, float]


class AdapterBundle:
    """A loaded bundle, of any method: `AdapterBundle.load(folder).predict(texts)`.

    Attributes:
        name: what errors call it: its folder; of one that was made in memory, its task.
        metrics: the winner's scores and what they are of, as `write_bundle` took them.
    """

    def __init__(
        self,
        config: BundleConfig,
        backbone: Backbone,
        trained: TrainedModel,
        *,
        name: str | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name or config.task
        self.metrics = metrics or {}
        self.config = config
        self.backbone = backbone
        self._trained = trained

    @property
    def model(self) -> PackModel:
        """The encoder with what was trained in it. Raises InputError for a bundle without an encoder."""
        if not isinstance(self._trained, TrainedEncoder):
            rule = f"its method is {self.config.train.method}: it has trained nothing in an encoder"
            raise InputError("BUNDLE", self.name, rule, "Give a bundle of another method.")
        return self._trained.model

    @classmethod
    def load(cls, folder: str | Path, *, backbone: str | Backbone | None = None) -> "AdapterBundle":
        """Read a bundle and load its backbone.

        Args:
            backbone: the backbone, or where it is now, when not under the name that the bundle has.

        Raises:
            BundleError: something is missing, cut short or changed; or the backbone is another one.
            InputError: the backbone cannot be loaded.
        """
        config, weights, metrics = read_files(Path(folder))
        if not isinstance(backbone, Backbone):
            backbone = _load_backbone(folder, config.backbone, backbone)
        if backbone.fingerprint != config.backbone_fingerprint:
            raise BundleError(
                f"{folder} was trained on backbone {config.backbone!r} with fingerprint "
                f"{config.backbone_fingerprint[:12]}, but {backbone.name!r} has {backbone.fingerprint[:12]}: "
                "its weights, config or tokenizer differ. Give the backbone it was trained on."
            )
        trained = _open_trained(Path(folder), config, backbone, safetensors.torch.load(weights))
        return cls(config, backbone, trained, name=str(folder), metrics=metrics)

    def predict(self, texts: Sequence[str | tuple[str, ...]], *, precision: str = "auto") -> list[Prediction]:
        """Predict labels for texts, or for pairs where the task has two text columns; answers for pairs of
        a question and a context.

        Raises:
            InputError: a text is of the wrong form: a pair where one is needed, or the reverse.
        """
        if isinstance(texts, str):
            raise InputError("texts", texts, "one string where a list of them is needed", "Write [text].")
        columns = len(self.config.text_columns)
        rows = [tuple(text) if isinstance(text, tuple | list) else (text,) for text in texts]
        for index, row in enumerate(rows):
            if len(row) != columns or not all(isinstance(part, str) for part in row):
                raise InputError(
                    f"texts[{index}]",
                    texts[index],
                    f"this bundle takes {columns} text(s) an example: {', '.join(self.config.text_columns)}",
                    "Give pairs as (first, second)." if columns == 2 else "Give one string.",
                )
            if any(map(has_surrogate, row)):
                rule = "has half a character (a lone surrogate)"
                fix = "Correct it, or leave it out: it was cut within a character."
                raise InputError(f"texts[{index}]", texts[index], rule, fix)
        if not rows:
            return []
        outputs, targets = self._trained.read(rows, precision=precision)
        answers = self.config.rules.answers(outputs, targets, self.config.labels, self.config.scale)
        return [Prediction(text, label, scores) for text, (label, scores) in zip(texts, answers, strict=True)]

    def outputs(self, rows: Sequence[tuple[str, ...]], *, precision: str = "auto") -> NDArray[np.float64]:
        """The head's raw outputs, shape (n, outputs)."""
        return self._trained.read(rows, precision=precision)[0]


def _load_backbone(folder: str | Path, name: str, elsewhere: str | None) -> Backbone:
    """A bundle's backbone, from where it is now or else by the name that the bundle has for it."""
    try:
        return load_backbone(elsewhere or name)
    except InputError as error:
        advice = f"It was given as the encoder of {folder}."
        if elsewhere is None:
            advice = (
                f"If the encoder of {folder} is elsewhere now, say where: --backbone, or backbone= in Python."
            )
        raise InputError(error.key, error.value, error.rule, f"{error.fix} {advice}") from error


def _open_trained(
    folder: Path, config: BundleConfig, backbone: Backbone, parameters: Mapping[str, Tensor]
) -> TrainedModel:
    """What a bundle's parameters are the parameters of. Raises BundleError where they do not fit."""
    method = find_method(config.train.method)
    try:
        different = method.different_tensors(
            backbone, config.train, parameters, outputs=config.outputs, columns=len(config.text_columns)
        )
    except (TypeError, OverflowError, RuntimeError) as error:  # torch's, of sizes that it cannot have
        raise BundleError(f"{folder}/{CONFIG} describes no model ({error}). Export it again.") from error
    if different:
        raise BundleError(f"{folder}/{WEIGHTS} does not fit its {CONFIG}: {', '.join(different[:3])} differ")
    return method.open_bundle(  # only now: its size is what the config claims
        backbone,
        config.train,
        parameters,
        outputs=config.outputs,
        rules=config.rules,
        pooling=config.pooling,
        max_tokens=config.max_tokens,
    )


def write_bundle(
    folder: Path,
    config: BundleConfig,
    parameters: Mapping[str, Tensor],
    *,
    metrics: Mapping[str, Any],
    card: str,
) -> None:
    """Write a bundle into an empty or new folder.

    Raises:
        FileExistsError: the folder holds something already.
    """
    weights = safetensors.torch.save({name: tensor.contiguous() for name, tensor in parameters.items()})
    write_files(folder, config, weights, metrics=metrics, card=card)


def read_bundle(folder: Path) -> tuple[BundleConfig, dict[str, Tensor]]:
    """Read and verify a bundle's files, without any backbone.

    Raises:
        BundleError: something is missing, cut short or changed.
    """
    config, weights, _ = read_files(folder)
    return config, safetensors.torch.load(weights)
