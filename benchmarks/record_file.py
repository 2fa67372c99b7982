"""The one file that record.py trains from: an encoder in 16 bits, tasks as tokens and targets."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModel

from pipelines.encoder.architectures import ARCHITECTURES
from pipelines.encoder.backbone import Backbone
from pipelines.encoder.tokens import Tokens
from pipelines.tasks.encoded import EncodedTask

ENCODER = "encoder"
_FIELDS = ("name", "kind", "metric", "metrics", "positive", "labels", "max_tokens")


@dataclass(frozen=True)
class PreparedTask:
    """A task to be trained on.

    Attributes:
        encoded: its validation set has the rows of the test set behind its own; its targets are its own.
        test_targets: what the outputs for those are scored against.
    """

    encoded: EncodedTask
    test_targets: NDArray[Any]


@dataclass(frozen=True)
class Prepared:
    """What is in the file.

    Attributes:
        pooling: "pooler", "cls" or "mean".
        dropout: the encoder's own.
        about: where it is from: commit, encoder, rows of each set, most tokens of a text.
    """

    backbone: Backbone
    pooling: str
    dropout: float
    tasks: dict[str, PreparedTask]
    about: dict[str, Any]


def write_prepared(path: Path, backbone: Backbone, tasks: list[PreparedTask], about: dict[str, Any]) -> None:
    """Raises ValueError: a token's number needs more than 16 bits, or a weight is larger than they hold."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, weight in backbone.model.state_dict().items():
        arrays[f"{ENCODER}.{name}"] = weight.numpy().astype(np.float16)
        if not np.isfinite(arrays[f"{ENCODER}.{name}"]).all():
            raise ValueError(f"{name} does not fit in 16 bits")
    for task in tasks:
        own = task.encoded
        for split, tokens in (("train", own.train), ("validation", own.validation)):
            if tokens.ids.max() > np.iinfo(np.uint16).max:
                raise ValueError(f"{own.name}: a token's number needs more than 16 bits")
            arrays[f"{own.name}.{split}.ids"] = tokens.ids.astype(np.uint16)
            arrays[f"{own.name}.{split}.lengths"] = tokens.lengths.astype(np.uint16)
            if tokens.types is not None:
                arrays[f"{own.name}.{split}.types"] = tokens.types
        arrays[f"{own.name}.train.targets"] = np.asarray(own.train_targets)
        arrays[f"{own.name}.validation.targets"] = np.asarray(own.validation_targets)
        arrays[f"{own.name}.test.targets"] = np.asarray(task.test_targets)
    facts = {
        "about": about,
        "config": backbone.model.config.to_dict(),
        "has_pooler": backbone.has_pooler,
        "fingerprint": backbone.fingerprint,
        "pad_id": backbone.pad_id,
        "pooling": backbone.pooling("auto"),
        "tasks": [{name: getattr(task.encoded, name) for name in _FIELDS} for task in tasks],
    }
    save_file(arrays, path, metadata={"facts": json.dumps(facts)})


def read_prepared(path: Path, device: torch.device) -> Prepared:
    """The encoder's weights in fp32 on the device; fresh in no other way from what was written."""
    with safe_open(path, framework="np") as file:
        facts = json.loads(file.metadata()["facts"])
    arrays = load_file(path)
    kind = facts["config"].pop("model_type")
    config = AutoConfig.for_model(kind, **facts["config"])
    config._attn_implementation = None
    model = AutoModel.from_config(config)
    if not facts["has_pooler"] and getattr(model, "pooler", None) is not None:
        model.pooler = None
    prefix = f"{ENCODER}."
    weights = {
        name.removeprefix(prefix): torch.from_numpy(array.astype(np.float32))
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    model.load_state_dict(weights)
    backbone = Backbone(
        name=facts["about"]["encoder"],
        model=model.to(device).requires_grad_(False).eval(),
        tokenizer=None,
        architecture=ARCHITECTURES[kind],
        has_pooler=facts["has_pooler"],
        fingerprint=facts["fingerprint"],
        pad_id=facts["pad_id"],
    )
    return Prepared(
        backbone=backbone,
        pooling=facts["pooling"],
        dropout=config.hidden_dropout_prob,
        tasks={own["name"]: _task(own, arrays) for own in facts["tasks"]},
        about=facts["about"],
    )


def joined(encoded: EncodedTask, test: Tokens, test_targets: NDArray[Any]) -> PreparedTask:
    """A task with its test set: scored with the validation set's outputs, in one pass."""
    return PreparedTask(replace(encoded, validation=encoded.validation.followed_by(test)), test_targets)


def _task(facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> PreparedTask:
    name = facts["name"]

    def tokens(split: str) -> Tokens:
        lengths = arrays[f"{name}.{split}.lengths"].astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = arrays[f"{name}.{split}.ids"].astype(np.int32)
        return Tokens(ids, offsets, arrays.get(f"{name}.{split}.types"))

    encoded = EncodedTask(
        **{**facts, "metrics": tuple(facts["metrics"]), "labels": tuple(facts["labels"])},
        train=tokens("train"),
        train_targets=arrays[f"{name}.train.targets"],
        validation=tokens("validation"),
        validation_targets=arrays[f"{name}.validation.targets"],
    )
    return PreparedTask(encoded, arrays[f"{name}.test.targets"])
