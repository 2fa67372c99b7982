"""Folders for temporary things that no other user of the machine can look into or put anything in."""

import contextlib
import fcntl
import os
import shutil
import socket
import stat
import sys
import tempfile
import time
from pathlib import Path

from search.errors import UserError

KEPT_SECONDS = 86_400.0  # how long the folder of a process that was killed is kept: logs lie in it
_PREFIX = "adaptune-ray-"
_SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107  # the kernel's limit


class PrivateFolder:
    """A new folder of mode 0700 under a name that nobody can guess, until it is removed.

    With it goes what processes that were killed a day ago have left.

    Args:
        deepest_socket: the longest path of a socket below the folder: the kernel limits the whole path.

    Raises:
        UserError: no folder for temporary files is short, safe and can hold a socket.
    """

    def __init__(self, *, deepest_socket: str) -> None:
        self.path = _make_folder(deepest_socket)
        self._handle = os.open(self.path, os.O_RDONLY)
        fcntl.flock(self._handle, fcntl.LOCK_EX)  # a sign of life, gone with this process
        _remove_leftovers(self.path.parent)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._handle)


def own_folder(name: str, parent: Path | None = None) -> Path:
    """A folder of this user alone, the same each time; made when it is not there.

    Args:
        parent: where it lies; None: in the folder for temporary files.

    Raises:
        PermissionError: there is one that may be another user's: a link, not ours, or open to others.
    """
    parent = (parent or Path(tempfile.gettempdir())).resolve()
    folder = parent / f"adaptune-{name}-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise PermissionError(f"{folder} is not a folder of ours ({error.strerror})") from error
    try:
        state = os.fstat(handle)
        if (
            state.st_uid != os.getuid()
            or state.st_mode & 0o022
            or not all(map(_keeps_names, (parent, *parent.parents)))
        ):
            raise PermissionError(f"{folder} can be changed by other users of this machine")
        os.fchmod(handle, 0o700)
    finally:
        os.close(handle)
    return folder


def ensure_home() -> None:
    """Give a process of a user without HOME and without an entry in the list of users, as containers have
    them, a home: else Ray and MLflow fail where they are imported.

    Raises:
        UserError: none can be made.
    """
    try:
        Path.home()
    except RuntimeError:
        try:
            os.environ["HOME"] = str(own_folder("home"))
        except OSError as error:
            raise UserError(f"user {os.getuid()} has no home folder ({error}). Set HOME to one.") from error


def _make_folder(deepest_socket: str) -> Path:
    tried = []
    for parent in _parents():
        try:
            if not _keeps_names(parent):
                raise PermissionError("other users can rename what is in it")
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            try:
                _try_socket(folder, deepest_socket)
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        except OSError as error:
            tried.append(f"{parent}: {error.strerror or error}")
        else:
            return folder
    raise UserError(
        "Ray needs a folder for its sockets, with a short path, that no other user can change. There is none "
        f"({'; '.join(tried)}). Set TMPDIR to a folder of your own with a path of at most "
        f"{_SOCKET_PATH_BYTES - len(deepest_socket) - len(_PREFIX) - 9} characters."
    )


def _parents() -> list[Path]:
    runtime = os.environ.get(
        "XDG_RUNTIME_DIR"
    )  # in memory, as the last: what does not fit there goes nowhere
    names = [tempfile.gettempdir(), "/tmp", "/var/tmp", *([runtime] if runtime else []), "/dev/shm"]  # noqa: S108 - only parents of a mkdtemp
    return [Path(name) for name in dict.fromkeys(names)]


def _keeps_names(parent: Path) -> bool:
    """Whether other users cannot rename or replace what we put into a folder."""
    mode = parent.stat().st_mode
    return not mode & 0o022 or bool(mode & stat.S_ISVTX)


def _try_socket(folder: Path, deepest: str) -> None:
    """See that a folder can hold a socket (some shared file systems refuse), and one so deep below it."""
    if len(os.fsencode(folder)) + len(deepest) > _SOCKET_PATH_BYTES:
        raise OSError("its path is too long for a socket below it")
    with socket.socket(socket.AF_UNIX) as trial:
        trial.bind(str(folder / "s"))
    (folder / "s").unlink()


def _remove_leftovers(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}????????"):
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                state = os.fstat(handle)
                if state.st_uid == os.getuid() and time.time() - state.st_mtime > KEPT_SECONDS:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its process lives
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
