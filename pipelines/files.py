"""Files that somebody else may have made: opened only where they are plain and not too large."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipelines.errors import FileError

# What a bundle consists of, and the most bytes of each. The largest weights are the word vectors of
# `embeddings`: three million words of 300 numbers are 3.6 GB.
WEIGHTS, CONFIG, METRICS, CARD = "adapter.safetensors", "config.json", "metrics.json", "README.md"
BUNDLE_FILES = {WEIGHTS: 16_000_000_000, CONFIG: 16_000_000, METRICS: 16_000_000, CARD: 16_000_000}


@contextmanager
def open_plain(path: Path, *, limit: int) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file to read; yields it and its size in bytes. Never waits for the other end of a pipe.

    Args:
        limit: the most bytes that it may have.

    Raises:
        FileError: it is a link, a folder, a pipe, a socket or a device, or larger than the limit.
        OSError: it is not there, or cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileError(f"{path} is a link, which is not followed") from error
        if error.errno == errno.ENXIO:  # a socket, or a device without a driver
            raise FileError(f"{path} is not a plain file") from error
        raise
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise FileError(f"{path} is not a plain file")
        if status.st_size > limit:
            raise FileError(f"{path} has {status.st_size:,} bytes, and {limit:,} are the most")
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield file, status.st_size
    finally:
        os.close(handle)


def read_plain(path: Path, *, limit: int) -> bytes:
    """A regular file's content; raises as `open_plain`."""
    with open_plain(path, limit=limit) as (file, size):
        return file.read(size)


def create_beside(path: Path, *, prefix: str, private: bool = False) -> tuple[int, Path]:
    """A new, empty file in the folder of `path`, to be written and then put in its place; its descriptor and
    path. Who may read it the umask decides, and a folder's own rules; of a private one only its owner.
    """
    temporary = path.with_name(f"{prefix}{secrets.token_hex(8)}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(temporary, flags, 0o600 if private else 0o666), temporary
