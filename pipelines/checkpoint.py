"""A training state as bytes: safetensors with a checksum, no pickle."""

import hashlib
import json
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pipelines.epochs import TrainingState
from pipelines.errors import CheckpointError, InputError
from pipelines.method import config_from_dict
from pipelines.results import EpochResult


def dump_state(state: TrainingState) -> bytes:
    """The state as one safetensors file, its results and checksum in the header."""
    header = json.dumps(
        {"config": state.config.to_dict(), "epochs": [epoch.to_dict() for epoch in state.epochs]}
    )
    tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
    metadata = {"state": header, "sha256": _checksum(header, tensors)}
    return safetensors.torch.save(tensors, metadata)


def load_state(data: bytes) -> TrainingState:
    """Read what `dump_state` wrote.

    Raises:
        CheckpointError: the bytes are cut short, changed, or something else altogether.
    """
    try:
        tensors = safetensors.torch.load(data)
        metadata: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])[
            "__metadata__"
        ]
        header, checksum = metadata["state"], metadata["sha256"]
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"not a checkpoint of adaptune, or cut short ({error})") from error
    if _checksum(header, tensors) != checksum:
        raise CheckpointError("its checksum does not match: the file was changed or damaged")
    content = json.loads(header)
    try:
        config = config_from_dict(content["config"])
        epochs = tuple(EpochResult.from_dict(epoch) for epoch in content["epochs"])
    except (
        TypeError,
        InputError,
    ) as error:  # fields that this version lacks, or its method
        raise CheckpointError(f"written by another version of adaptune ({error})") from error
    return TrainingState(config=config, epochs=epochs, tensors=tensors)


def _checksum(header: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
