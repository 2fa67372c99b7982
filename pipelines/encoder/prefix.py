"""Layers that no trial trains are computed once: their output for every token of a task, in a mapped file.

Below the lowest trained layer the network is constant and nothing is dropped, so that its output depends on
the tokens, the backbone, the layer and the precision alone. Whoever needs it first writes it; all workers and
later jobs map the same file.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from pipelines.encoder.backbone import Backbone
from pipelines.encoder.batches import collate, evaluation_batches
from pipelines.encoder.frozen import FrozenModel
from pipelines.encoder.precision import autocast
from pipelines.encoder.sentences import sentence_vectors
from pipelines.encoder.tokens import Tokens
from pipelines.files import create_beside

BATCH = 64  # examples
_DTYPES: dict[str, np.dtype[np.generic]] = {
    "fp32": np.dtype(np.float32),
    "bf16": np.dtype(np.int16),
}  # numpy has no bfloat16: its bits
_CHUNK = 1 << 24  # bytes read at once for a checksum


class PrefixCache:
    """Hidden states on disk, the oldest unused first out. Several processes may use one folder.

    A file appears under its name only once it is whole, beside a note of its size and checksum, which is
    checked when a process first opens it; a damaged file is computed again. What a killed process had half
    written goes when the file is written after all.

    Args:
        folder: made when first needed.
        gigabytes: of 10^9 bytes; files above them are removed, and one larger than that is never written.
    """

    def __init__(self, folder: Path, gigabytes: float) -> None:
        self.folder = folder
        self.bytes = int(gigabytes * 1e9)
        self._open: dict[str, NDArray[np.generic]] = {}

    def read(
        self, backbone: Backbone, tokens: Tokens, boundary: int, precision: str
    ) -> NDArray[np.generic] | None:
        """The output of the layer below `boundary` for all tokens, (total, d), float32 or bfloat16's bits.

        None where it does not fit in the cache, or the disk is full. For some of a task's texts it is that of
        all, in whose arrays they are.
        """
        tokens = tokens.whole
        return self._read(
            _key(backbone, tokens, str(boundary), precision),
            (len(tokens.ids), backbone.width),
            _DTYPES[precision],
            lambda: hidden_states(backbone, tokens, boundary, precision),
        )

    def read_sentences(
        self, backbone: Backbone, tokens: Tokens, pooling: str, precision: str
    ) -> NDArray[np.generic] | None:
        """The sentence vector of every text, (n, d) float32; None as for `read`."""
        return self._read(
            _key(backbone, tokens, pooling, precision),
            (len(tokens), backbone.width),
            np.dtype(np.float32),
            lambda: sentence_vectors(backbone, tokens, pooling, precision),
        )

    def _read(
        self,
        key: str,
        shape: tuple[int, int],
        dtype: np.dtype[np.generic],
        compute: Callable[[], Iterator[tuple[int, NDArray[np.generic]]]],
    ) -> NDArray[np.generic] | None:
        size = shape[0] * shape[1] * dtype.itemsize
        if size == 0 or size > self.bytes:
            return None
        if key not in self._open:
            try:
                path = self._make(key, compute, size)
            except OSError:  # no room, or no permission: slower, not wrong
                return None
            self._open[key] = np.memmap(path, dtype=dtype, mode="r", shape=shape)
        return self._open[key]

    def _make(
        self, key: str, compute: Callable[[], Iterator[tuple[int, NDArray[np.generic]]]], size: int
    ) -> Path:
        path = self.folder / f"{key}.hidden"
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{key}.lock"):
            if not _is_whole(path, size):
                self._make_room(size)
                _write(path, compute())
            os.utime(path)
        return path

    def _make_room(self, size: int) -> None:
        """Remove the files that were not opened for longest; who has one mapped keeps it."""
        files = []
        for file in self.folder.glob("*.hidden"):
            with suppress(FileNotFoundError):
                files.append((file.stat().st_mtime, file.stat().st_size, file))
        used = sum(own for _, own, _ in files)
        for _, own, file in sorted(files):
            if used + size <= self.bytes:
                return
            file.unlink(missing_ok=True)
            file.with_suffix(".json").unlink(missing_ok=True)
            used -= own


def sentences(
    backbone: Backbone, tokens: Tokens, pooling: str, precision: str, cache: PrefixCache | None
) -> NDArray[np.float32]:
    """The frozen vector of each text, (n, d): out of the cache, where there is one and it has room."""
    known = None if cache is None else cache.read_sentences(backbone, tokens.whole, pooling, precision)
    if known is not None:
        return np.asarray(known if tokens.rows is None else known[tokens.rows], dtype=np.float32)
    found = np.empty((len(tokens), backbone.width), dtype=np.float32)
    for text, vector in sentence_vectors(backbone, tokens, pooling, precision):
        found[text] = vector
    return found


def hidden_states(
    backbone: Backbone, tokens: Tokens, boundary: int, precision: str
) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """Compute the output of layer `boundary` - 1: pieces of (first token, hidden states of a text)."""
    device = next(backbone.model.parameters()).device
    model = FrozenModel(backbone, boundary)
    for indices in evaluation_batches(tokens.lengths, BATCH):
        batch = collate([(tokens, indices)], pad_id=backbone.pad_id, device=device)
        with torch.inference_mode(), autocast(device, precision):
            hidden = model(batch).to(torch.bfloat16 if precision == "bf16" else torch.float32).cpu()
        values = (hidden.view(torch.int16) if precision == "bf16" else hidden).numpy()
        starts, lengths = tokens.starts[indices].tolist(), tokens.lengths[indices].tolist()
        for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            yield start, values[row, :length]


def _key(backbone: Backbone, tokens: Tokens, what: str, precision: str) -> str:
    digest = hashlib.sha256(f"{backbone.fingerprint} {what} {precision} {torch.__version__}".encode())
    for array in (tokens.ids, tokens.offsets, tokens.types):
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _write(path: Path, pieces: Iterator[tuple[int, NDArray[np.generic]]]) -> None:
    """For the holder of the file's lock: what a killed one had half written goes."""
    half = f".writing-{path.stem}-"
    for left in path.parent.glob(f"{half}*"):
        left.unlink()
    handle, temporary = create_beside(path, prefix=half)
    try:
        with os.fdopen(handle, "r+b") as file:
            for start, values in pieces:
                file.seek(start * values.shape[1] * values.itemsize)
                file.write(np.ascontiguousarray(values).data)
        note = {"bytes": temporary.stat().st_size, "sha256": _sha256(temporary)}
        path.unlink(missing_ok=True)  # never a file beside the note of another
        path.with_suffix(".json").write_text(json.dumps(note))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_whole(path: Path, size: int) -> bool:
    try:
        note = json.loads(path.with_suffix(".json").read_text())
        return bool(note["bytes"] == size == path.stat().st_size and note["sha256"] == _sha256(path))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
