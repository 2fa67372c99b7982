"""The bundle: an exported adapter with all that is needed to use it, and nothing of the backbone."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.config import Config
from pipelines.encoder.backbone import Backbone, load_backbone
from pipelines.errors import BundleError, FileError, InputError
from pipelines.files import BUNDLE_FILES, CARD, CONFIG, METRICS, WEIGHTS, read_plain
from pipelines.method import TrainedModel, config_from_dict, find_method
from pipelines.packs.bundle import TrainedEncoder
from pipelines.packs.model import PackModel
from pipelines.tasks.kind import Kind, Scale, kind_of
from pipelines.texts import has_surrogate

FORMAT = 1


@dataclass(frozen=True)
class BundleConfig:
    """What a bundle says of itself, as config.json holds it.

    Attributes:
        backbone: its name as the job gave it; `backbone_fingerprint` is what counts.
        pooling: resolved: "pooler", "cls" or "mean".
        labels: class names by index; () for regression and spans.
        target_mean, target_std: undo the standardisation of regression targets.
    """

    backbone: str
    backbone_fingerprint: str
    task: str
    kind: str
    text_columns: tuple[str, ...]
    labels: tuple[str, ...]
    pooling: str
    max_tokens: int
    train: Config
    target_mean: float = 0.0
    target_std: float = 1.0

    @property
    def rules(self) -> Kind:
        """What depends on the task's kind. Raises InputError for one that is not registered here."""
        return kind_of(self.kind)

    @property
    def outputs(self) -> int:
        """The head's width."""
        return self.rules.outputs(self.labels)

    @property
    def scale(self) -> Scale:
        """What undoes the standardisation of the outputs."""
        return Scale(self.target_mean, self.target_std)

    def to_dict(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"train": self.train.to_dict()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "BundleConfig":
        """What `to_dict` wrote; raises TypeError, ValueError or KeyError for anything else."""
        _check_fields(raw)
        return cls(
            **{
                **raw,
                "text_columns": tuple(raw["text_columns"]),
                "labels": tuple(raw["labels"]),
                "train": config_from_dict(raw["train"]),
            }
        )


@dataclass(frozen=True)
class Prediction:
    """One text's prediction. `label` is what the kind answers: a class name, a number, or for spans a text.

    `scores` are probabilities by class name, empty for regression and spans.
    """

    text: str | tuple[str, ...]
    label: str | float
    scores: Mapping[str, float]


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
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; choose another folder or empty it")
    weights = safetensors.torch.save({name: tensor.contiguous() for name, tensor in parameters.items()})
    scores = _json(metrics)
    content = {
        "format": FORMAT,
        **config.to_dict(),
        "sha256": {WEIGHTS: _sha256(weights), METRICS: _sha256(scores)},
    }
    (folder / WEIGHTS).write_bytes(weights)
    (folder / METRICS).write_bytes(scores)
    (folder / CARD).write_text(card, encoding="utf-8")
    (folder / CONFIG).write_bytes(_json(content | {"checksum": _sha256(_json(content))}))


class AdapterBundle:
    """A loaded bundle, of any method: `AdapterBundle.load(folder).predict(texts)`.

    Attributes:
        name: what errors call it: its folder; of one that was made in memory, its task.
    """

    def __init__(
        self, config: BundleConfig, backbone: Backbone, trained: TrainedModel, *, name: str | None = None
    ) -> None:
        self.name = name or config.task
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
        config, parameters = read_bundle(Path(folder))
        if not isinstance(backbone, Backbone):
            backbone = _load_backbone(folder, config.backbone, backbone)
        if backbone.fingerprint != config.backbone_fingerprint:
            raise BundleError(
                f"{folder} was trained on backbone {config.backbone!r} with fingerprint "
                f"{config.backbone_fingerprint[:12]}, but {backbone.name!r} has {backbone.fingerprint[:12]}: "
                "its weights, config or tokenizer differ. Give the backbone it was trained on."
            )
        trained = _open_trained(Path(folder), config, backbone, parameters)
        return cls(config, backbone, trained, name=str(folder))

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
        if elsewhere is not None:
            raise
        moved = f"If the encoder of {folder} is elsewhere now, say where: --backbone, or backbone= in Python."
        raise InputError(error.key, error.value, error.rule, f"{error.fix} {moved}") from error


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


def read_bundle(folder: Path) -> tuple[BundleConfig, dict[str, Tensor]]:
    """Read and verify a bundle's files, without any backbone.

    Raises:
        BundleError: something is missing, cut short or changed.
    """
    content = {name: _read(folder, name) for name in (CONFIG, WEIGHTS, METRICS)}
    try:
        fields = json.loads(content[CONFIG])
        checksum = fields.pop("checksum")
        files, version = dict(fields.pop("sha256")), fields.pop("format")
        unsigned = {"format": version, **fields, "sha256": files}
        unchanged = content[CONFIG] == _json({**unsigned, "checksum": checksum})
        unchanged &= _sha256(_json(unsigned)) == checksum
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise BundleError(f"{folder}/{CONFIG} is damaged ({error}). Export the bundle again.") from error
    if not unchanged:
        raise BundleError(f"{folder}/{CONFIG} was changed since it was written. Export the bundle again.")
    if version != FORMAT:
        raise BundleError(
            f"{folder} has bundle format {version}, this adaptune reads {FORMAT}. Update adaptune."
        )
    if set(files) != {WEIGHTS, METRICS}:
        raise BundleError(f"{folder}/{CONFIG} has checksums of other files than {WEIGHTS} and {METRICS}.")
    for name, expected in files.items():
        if _sha256(content[name]) != expected:
            raise BundleError(f"{folder}/{name} was changed or cut short. Export the bundle again.")
    try:
        parameters = safetensors.torch.load(content[WEIGHTS])
        return BundleConfig.from_dict(fields), parameters
    except InputError as error:
        fix = "Import the package that registers it, or update adaptune."
        raise BundleError(f"{folder} needs a method that is not there ({error}). {fix}") from error
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise BundleError(f"{folder} cannot be read ({error}). Export the bundle again.") from error


def _read(folder: Path, name: str) -> bytes:
    try:
        return read_plain(folder / name, limit=BUNDLE_FILES[name])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(f"{folder} is not a whole bundle: {name} is missing. Export it again.") from error
    except FileError as error:
        raise BundleError(f"{error}. A bundle has plain files only; export it again.") from error
    except OSError as error:
        raise BundleError(f"{folder}/{name} cannot be read ({error.strerror}).") from error


def _check_fields(raw: Mapping[str, Any]) -> None:
    words = ("backbone", "backbone_fingerprint", "task", "kind", "pooling")
    texts = [*(raw[key] for key in words), *raw["text_columns"], *raw["labels"]]
    numbers = [raw["max_tokens"], raw.get("target_mean", 0.0), raw.get("target_std", 1.0)]
    if not all(type(text) is str for text in texts):
        raise TypeError("a name or a label is no text")
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise TypeError("max_tokens or the targets' scale is no number")
    if type(raw["max_tokens"]) is not int or raw["max_tokens"] < 1 or not isinstance(raw["train"], dict):
        raise ValueError("max_tokens or train is out of range")


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
