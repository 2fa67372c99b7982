"""Addresses: which are URIs, what a storage may be, URLs of files whatever characters their paths have."""

import re
from pathlib import Path

from search.secrets import has_secret

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "file")  # that pyarrow opens
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_LIKE_A_URI = re.compile(r"([A-Za-z][\w+.-]+):(//?)")
_SPECIAL = re.compile(r"[%?#{}]")  # what means something in a URL, and in Optuna's templates of one


def is_uri(location: str) -> bool:
    """Whether a location is a URI such as s3://bucket/runs, not a path."""
    return bool(_URI.match(location))


def storage_problem(location: str) -> tuple[str, str] | None:
    """Why a storage is neither a folder nor a URI that we open and may show, and what to do; None where it
    is one.
    """
    if is_uri(location) and has_secret(location):
        return (
            "holds credentials, which would show in the record and in a cluster's list of jobs",
            "Give them by the store's own environment variables, or by the machine's role there.",
        )
    written = _LIKE_A_URI.match(location)
    if written is None or (written[1] in SCHEMES and written[2] == "//"):
        return None
    known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
    return (
        f"no storage is known by {written[0]!r}",
        f"Write a folder, or a URI that begins with one of {known}; ./ before a folder with a colon.",
    )


def sqlite_url(path: str, *, rest: str = "", scheme: str = "sqlite") -> str:
    """The SQLAlchemy URL of an SQLite file at an absolute path, whatever characters that has; the rest, of a
    URL that a user wrote, is added as it is.

    SQLAlchemy decodes the path. MLflow does not before it makes the folders above: only where a URL begins
    with sqlite:///, so that one to be decoded names the driver too.
    """
    quoted = _SPECIAL.sub(lambda found: f"%{ord(found[0]):02X}", path)
    if quoted != path and scheme == "sqlite":
        scheme = "sqlite+pysqlite"
    return f"{scheme}:///{quoted}{rest}"


def file_uri(path: str) -> str:
    """An absolute path as MLflow keeps it: as it is, or as a URI where it would be taken for a quoted one."""
    return Path(path).as_uri() if _SPECIAL.search(path) else path
