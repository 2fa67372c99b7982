"""What `search.cluster.remote` and `search.probe` say to each other, maybe in two versions."""

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from search.errors import RemoteError

# In the working directory that Ray unpacks: a submitted job, a call's request, the database of either.
JOB_FILE, REQUEST_FILE, DATABASE_FILE = "adaptune_job.yaml", "adaptune_probe.json", "adaptune_database"
UNPACKED_LIMIT_BYTES = 1_000_000_000  # of a folder that is fetched
_LINE = 3000  # characters


def close_to_others() -> None:
    """Of this process's working directory, the files that may hold a password: Ray lets all read them."""
    for name in (JOB_FILE, REQUEST_FILE, DATABASE_FILE):
        with contextlib.suppress(OSError):
            Path(name).chmod(0o600)


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
