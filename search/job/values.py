"""The values that a job file may give: names, paths, addresses, counts. Each is checked where it stands."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from pipelines.locations import DOWNLOAD, NO_FILE, is_address
from search.addresses import is_uri, sqlite_url
from spaces.errors import FieldError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
PACKAGE = re.compile(r"package:\w+(/.+)?")
MOST = 10**12  # of anything that is counted


def absolute(location: str, folder: Path) -> str:
    """A path, relative to a folder unless it is absolute or starts in a home (``~``). Raises FieldError."""
    try:
        return str((folder / Path(location).expanduser()).absolute())
    except RuntimeError:
        raise FieldError("", location, "names no user's home", "Write the path in full.") from None


def folder_of(info: ValidationInfo) -> Path | None:
    """The folder that data paths are relative to; None where a job is read back and has none that are."""
    return info.context["folder"] if info.context else Path.cwd()


def is_name(name: object) -> bool:
    """Whether a job or a task may be called so: folders are."""
    return isinstance(name, str) and NAME.fullmatch(name) is not None and ".." not in name


def _check_name(name: str) -> str:
    if not is_name(name):
        rule = "cannot be a name: folders are called by it"
        fix = "Use 1 to 100 letters, digits, '_', '-' and single '.', with a letter or a digit first."
        raise FieldError("", name, rule, fix)
    return name


def check_some(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse an empty list; as a validator it keeps quiet where an entry is wrong already."""
    if not values:
        raise FieldError("", [], "is empty", "Give at least one.")
    return values


def _as_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _check_package(location: str) -> None:
    if location.startswith("package:") and not PACKAGE.fullmatch(location):
        raise FieldError("", location, "names no package", "Write package:NAME/PATH.")


def _absolute_path(location: str, info: ValidationInfo) -> str:
    """A path, absolute; places in packages as they are."""
    _check_package(location)
    folder = folder_of(info)
    if folder is None or location.startswith("package:"):
        return location
    if is_address(location):
        raise FieldError("", location, NO_FILE, DOWNLOAD)
    return absolute(location, folder)


def _absolute_folder(location: str, info: ValidationInfo) -> str:
    """A folder's absolute path where there is one; else the location as it is, which is then a Hub id."""
    _check_package(location)
    folder = folder_of(info)
    if folder is None or location.startswith("package:"):
        return location
    if is_address(location):
        rule = "is an address, and neither a folder nor an id on the Hub"
        raise FieldError("", location, rule, "Give the id, as ORGANISATION/NAME, or a folder's path.")
    path = absolute(location, folder)
    try:
        is_folder = Path(path).is_dir()
    except OSError:  # too long, or not ours to see
        is_folder = False
    return path if is_folder or location.startswith((".", "/", "~")) else location


def _absolute_uri(uri: str) -> str:
    """A URI; that of an SQLite file with an absolute path, as it is opened from other folders too."""
    if not is_uri(uri):
        raise FieldError("", uri, "is no URI", "Write e.g. sqlite:////home/me/runs.db or http://host:5000.")
    scheme, _, path = uri.partition(":///")
    if not scheme.startswith("sqlite") or not path or path.startswith("/"):
        return uri
    return sqlite_url(f"{Path.cwd()}/", rest=path, scheme=scheme)


def _check_concurrent(value: Any) -> Any:
    if value != "auto" and (type(value) is not int or not 1 <= value <= MOST):
        raise FieldError("", value, "needs auto or a whole number, 1 or more", "Write auto.")
    return value


def _check_experience(value: Any) -> Any:
    """A single text is auto or none; a list is of jobs."""
    if value in ("auto", "none") or (isinstance(value, list | tuple) and value):
        return tuple(value) if isinstance(value, list) else value
    raise FieldError("", value, "needs auto, none or a list of jobs", "Write auto, or e.g. [my-first-job].")


def check_gpus(gpus: float) -> float:
    """A part of one GPU, or whole ones. Raises FieldError."""
    if gpus > 1 and gpus != int(gpus):
        raise FieldError("", gpus, "above 1 needs whole GPUs", f"Write {int(gpus)}.")
    return gpus


def check_share(share: float) -> float:
    """More than nothing. Raises FieldError."""
    if share <= 0:
        fix = "Write e.g. 0.25, a quarter of the search's epochs; to run nothing again, confirm: none."
        raise FieldError("", share, "needs more than 0", fix)
    return share


def hub_path(value: Any) -> Any:
    """A dataset's id alone as the mapping that it stands for."""
    return {"path": value} if isinstance(value, str) else value


def as_tuple(value: Any) -> Any:
    """A list as a tuple; anything else is left for its type's check."""
    return tuple(value) if isinstance(value, list) else value


def one_or_more(value: Any) -> Any:
    """One text is a tuple of one, a list a tuple; anything else is left for its type's check."""
    return (value,) if isinstance(value, str) else as_tuple(value)


Text = Annotated[str, Field(min_length=1), BeforeValidator(_as_text)]
Name = Annotated[str, AfterValidator(_check_name), Field(json_schema_extra={"pattern": f"^{NAME.pattern}$"})]
DataPath = Annotated[Text, AfterValidator(_absolute_path)]
FolderOrHub = Annotated[Text, AfterValidator(_absolute_folder)]
Several = BeforeValidator(as_tuple)
Columns = Annotated[
    tuple[Text, ...],
    BeforeValidator(one_or_more, json_schema_input_type=str | tuple[str, ...]),
]
Count = Annotated[int, Field(ge=1, le=MOST)]
Uri = Annotated[str, AfterValidator(_absolute_uri)]
Minutes = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what numpy takes
Experience = Annotated[
    Literal["auto", "none"] | tuple[Name, ...],
    BeforeValidator(_check_experience, json_schema_input_type=Literal["auto", "none"] | tuple[Name, ...]),
]
Concurrent = Annotated[
    Literal["auto"] | int, BeforeValidator(_check_concurrent, json_schema_input_type=Literal["auto"] | Count)
]
