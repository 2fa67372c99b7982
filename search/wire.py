"""What `search.cluster.remote` and `search.probe` say to each other, maybe in two versions."""

import base64
import hashlib
from collections.abc import Iterator
from importlib import metadata

from search.errors import RemoteError

REQUEST_FILE = "adaptune_probe.json"  # in the working directory of a call
UNPACKED_LIMIT_BYTES = 1_000_000_000  # of a folder that is fetched
_LINE = 3000  # characters


def version() -> str | None:
    """The installed adaptune's version, None if there is none."""
    try:
        return metadata.version("adaptune")
    except metadata.PackageNotFoundError:
        return None


def encode(payload: bytes, nonce: str) -> Iterator[str]:
    """Write bytes as lines that survive between the other lines of a job's log; the reverse of `decode`."""
    text = base64.b64encode(payload).decode()
    for start in range(0, len(text), _LINE):
        yield f"{nonce}:{text[start : start + _LINE]}"
    yield f"{nonce}={hashlib.sha256(payload).hexdigest()}"


def decode(log: str, nonce: str) -> bytes:
    """The bytes that `encode` wrote between a log's lines. Raises RemoteError where some are missing."""
    lines = [line.removeprefix(nonce) for line in log.splitlines() if line.startswith(nonce)]
    payload = base64.b64decode("".join(line[1:] for line in lines if line.startswith(":")))
    if not lines or lines[-1] != f"={hashlib.sha256(payload).hexdigest()}":
        raise RemoteError("The reply of the cluster is incomplete or damaged; try again.")
    return payload
