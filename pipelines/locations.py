"""Where a thing lies that a user named: a path, a Hub id, or a place inside an installed package."""

import importlib.util
import re
from pathlib import Path

from pipelines.errors import InputError

PACKAGE_PREFIX = "package:"
NO_FILE = "is an address, and rows are read from files"
DOWNLOAD = "Download it and give the file's path; a dataset on the Hub goes under hub, by its id."
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]+:/|file:")


def is_address(location: str) -> bool:
    """Whether a location is an address such as https://host/x, s3://bucket/x or file:x, and no path."""
    return bool(_ADDRESS.match(location))


def resolve_location(name: str, *, key: str) -> str:
    """Turn package:NAME/PATH into a path; anything else is returned as it is.

    Raises:
        InputError: the package is not installed, or holds no such file or folder.
    """
    if not name.startswith(PACKAGE_PREFIX):
        return name
    package, _, inside = name.removeprefix(PACKAGE_PREFIX).partition("/")
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except ValueError:  # a module that was made without a spec, as __main__
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            key, name, f"no package {package!r} is installed", f"Install it, e.g. pip install {package}."
        )
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    path = (root / inside).resolve()
    if not path.is_relative_to(root) or not path.exists():
        raise InputError(
            key, name, f"package {package!r} has no {inside!r}", f"Look under {root} for what it has."
        )
    return str(path)
