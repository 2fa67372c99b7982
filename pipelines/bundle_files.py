"""A bundle as files: what it says of itself; written, read, verified. Without torch, which loads slowly."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors

from pipelines.config import Config
from pipelines.errors import BundleError, FileError, InputError
from pipelines.files import BUNDLE_FILES, CARD, CONFIG, METRICS, WEIGHTS, read_plain
from pipelines.method import config_from_dict
from pipelines.tasks.kind import Kind, Scale, kind_of

FORMAT = 1

_safetensors: Any = safetensors  # typed in part


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


def write_files(
    folder: Path,
    config: BundleConfig,
    weights: bytes,
    *,
    metrics: Mapping[str, Any],
    card: str,
) -> None:
    """Write a bundle into an empty or new folder.

    Args:
        weights: as safetensors has them.

    Raises:
        FileExistsError: the folder holds something already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; choose another folder or empty it")
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


class BundleFiles(NamedTuple):
    """A verified bundle: weights as safetensors has them, scores as `write_files` took them."""

    config: BundleConfig
    weights: bytes
    metrics: Mapping[str, Any]


def read_files(folder: Path) -> BundleFiles:
    """Read and verify a bundle's files.

    Raises:
        BundleError: something is missing, cut short or changed, or is of a kind or method that is not
            registered here.
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
        _safetensors.deserialize(content[WEIGHTS])
        config = BundleConfig.from_dict(fields)
        kind_of(config.kind)
    except InputError as error:
        fix = "Import the package that registers it, or update adaptune."
        raise BundleError(f"{folder} needs what is not there ({error}). {fix}") from error
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise BundleError(f"{folder} cannot be read ({error}). Export the bundle again.") from error
    return BundleFiles(config, content[WEIGHTS], _parse_metrics(content[METRICS], folder))


def _parse_metrics(data: bytes, folder: Path) -> dict[str, Any]:
    """Scores, and what they are of: `metric`, `positive` and `label` are names, where they are there."""
    try:
        metrics = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{folder}/{METRICS} is damaged ({error}). Export the bundle again.") from error
    if not isinstance(metrics, dict) or not all(
        isinstance(metrics.get(key), str | None) for key in ("metric", "positive", "label")
    ):
        raise BundleError(f"{folder}/{METRICS} holds no scores of a task. Export the bundle again.")
    return metrics


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
    if len(raw["text_columns"]) not in (1, 2):
        raise ValueError("text_columns are not one or two")
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise TypeError("max_tokens or the targets' scale is no number")
    if type(raw["max_tokens"]) is not int or raw["max_tokens"] < 1 or not isinstance(raw["train"], dict):
        raise ValueError("max_tokens or train is out of range")


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
