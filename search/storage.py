"""Where a job's state lies: one folder that every node sees, or one URI of an object store."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pyarrow import fs

from pipelines.errors import FileError
from pipelines.files import BUNDLE_FILES, create_beside, open_plain
from search.addresses import file_uri, is_uri, sqlite_url, storage_problem
from search.errors import UserError
from search.secrets import hide_secrets

STUDY_DATABASE = "studies.db"
TRACKING_DATABASE = "mlflow.db"  # MLflow's own, where the job names no server
_WRITING = ".writing-"  # begins the name of a file that is not whole yet


def check_storage(location: str) -> None:
    """Raise UserError where a storage is neither a folder nor a URI that we open and may show."""
    if problem := storage_problem(location):
        raise UserError(f"storage {hide_secrets(location)}: {problem[0]}. {problem[1]}")


@dataclass(frozen=True)
class Storage:
    """All state of all jobs under one root. Keys are relative, with forward slashes.

    Attributes:
        root: an absolute path, or a URI such as s3://bucket/adaptune.
        database: the studies' SQLAlchemy URL; None: studies.db in the root, which must then be a folder.

    Raises:
        UserError: a URI of a kind that is not known, or with credentials.
    """

    root: str
    database: str | None = None

    def __post_init__(self) -> None:
        if is_uri(self.root):
            check_storage(self.root)

    @property
    def is_folder(self) -> bool:
        return not is_uri(self.root)

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the Optuna studies."""
        return self.database or sqlite_url(f"{self.root}/{STUDY_DATABASE}")

    @property
    def artifacts(self) -> str:
        """Where MLflow puts artifacts: explicit, since its default for SQLite is ./mlruns."""
        return self.uri("mlartifacts")

    def artifacts_of(self, experiment: str) -> str:
        """Where MLflow puts the artifacts of an experiment."""
        artifacts = f"{self.artifacts}/{experiment}"
        return file_uri(artifacts) if self.is_folder else artifacts

    @property
    def tracking_uri(self) -> str:
        """MLflow's own database when the job names no server."""
        return sqlite_url(f"{self.root}/{TRACKING_DATABASE}")

    def uri(self, key: str) -> str:
        """The address of a key: a path for a folder, else a URI."""
        return f"{self.root.rstrip('/')}/{key}"

    def path(self, key: str) -> Path:
        """The local path of a key; raises UserError where the storage is not a folder."""
        if not self.is_folder:
            raise UserError(f"{self.root} is not a folder, so {key} cannot be opened in place.")
        return Path(self.root) / key

    def has(self, key: str) -> bool:
        """Whether a folder has a file, which this user may read.

        Raises:
            UserError: they may not look, or not read it.
        """
        path = self.path(key)
        try:
            there = path.is_file()
        except PermissionError as error:
            raise _unreadable(path) from error
        if there and not os.access(path, os.R_OK):
            raise _unreadable(path)
        return there

    def prepare(self) -> None:
        """Make the root and see that it can be written.

        Raises:
            UserError: it cannot, and why.
        """
        probe = f".probe-{os.getpid()}"
        try:
            self.write(probe, b"adaptune")
            self.delete(probe)
        except (OSError, ValueError) as error:  # ValueError: pyarrow knows no such kind of URI
            raise UserError(
                f"storage {self.root} cannot be written ({error}). "
                "Give a folder you may write to: `storage:` in the job file, or --storage."
            ) from error

    def write(self, key: str, data: bytes, *, private: bool = False) -> None:
        """Write a file whole or not at all: whoever reads sees the old content or the new one.

        Who may read it the umask decides, and the folder's own rules; a private one only its owner.
        """
        filesystem, path = self._open(key)
        if filesystem is None:
            _write_file(Path(path), data, private=private)
            return
        with filesystem.open_output_stream(path) as stream:  # an object appears only once it is whole
            stream.write(data)

    def read(self, key: str) -> bytes | None:
        """A file's content, or None where there is no such file."""
        filesystem, path = self._open(key)
        if filesystem is None:
            with contextlib.suppress(FileNotFoundError):
                return Path(path).read_bytes()
            return None
        try:
            with filesystem.open_input_stream(path) as stream:
                content: bytes = stream.read()
                return content
        except FileNotFoundError:
            return None

    def delete(self, key: str) -> None:
        """Remove a file or a folder, if it is there."""
        filesystem, path = self._open(key)
        if filesystem is None:
            _delete(Path(path))
            return
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.Directory:
            filesystem.delete_dir(path)
        elif info.type == fs.FileType.File:
            filesystem.delete_file(path)

    def tidy(self, key: str) -> None:
        """Remove from a folder what killed processes had half written; for its one writer."""
        filesystem, path = self._open(key)
        if filesystem is None:
            for left in Path(path).rglob(f"{_WRITING}*"):
                _delete(left)

    def upload(self, folder: Path, key: str) -> None:
        """Put a local folder in place of whatever is at `key`."""
        filesystem, path = self._open(key)
        if filesystem is None:
            _replace_folder(Path(path), folder)
            return
        self.delete(key)
        fs.copy_files(str(folder), path, destination_filesystem=filesystem)

    def fetch(self, uri: str, folder: Path) -> None:
        """Copy the bundle at one of our `uri`s into a local folder: its known, plain files and nothing else.

        Raises:
            FileNotFoundError: there is no such folder.
            UserError: one of its files is a link, no file at all, unreadable, or larger than any bundle's.
        """
        filesystem, path = self._open(uri.removeprefix(self.root.rstrip("/")).lstrip("/"))
        known = filesystem or fs.LocalFileSystem()
        try:
            kind = known.get_file_info(path).type
        except PermissionError as error:
            raise _unreadable(path) from error
        if kind != fs.FileType.Directory:
            raise FileNotFoundError(f"there is no folder {uri}")
        folder.mkdir(parents=True, exist_ok=True)
        for name, limit in BUNDLE_FILES.items():
            with (
                contextlib.suppress(FileNotFoundError),
                _open_to_read(filesystem, f"{path}/{name}", limit) as file,
                (folder / name).open("xb") as copy,
            ):
                shutil.copyfileobj(file, copy)

    def _open(self, key: str) -> tuple[fs.FileSystem | None, str]:
        """The path of a key, and the filesystem it is on; None: this machine's, by a path or by file://."""
        if self.is_folder:
            return None, str(self.path(key))
        filesystem, root = fs.FileSystem.from_uri(self.root)
        path = f"{root.rstrip('/')}/{key}"
        return (None if isinstance(filesystem, fs.LocalFileSystem) else filesystem), path


@contextlib.contextmanager
def _open_to_read(filesystem: fs.FileSystem | None, path: str, limit: int) -> Iterator[IO[bytes]]:
    if filesystem is None:
        try:
            with open_plain(Path(path), limit=limit) as (file, _):
                yield file
        except FileError as error:
            raise UserError(f"{error}. A bundle has plain files only.") from error
        except PermissionError as error:
            raise _unreadable(path) from error
        return
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(path)
    if info.type != fs.FileType.File or info.size > limit:
        raise UserError(f"{path} is no file, or larger than the {limit:,} bytes that a bundle's may have.")
    with filesystem.open_input_stream(path) as stream:
        yield stream


def _unreadable(path: Path | str) -> UserError:
    fix = "docs/cluster.md says under Several users how they share a storage."
    return UserError(f"{path} may not be read by this user. {fix}")


def _write_file(target: Path, data: bytes, *, private: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = create_beside(target, prefix=_WRITING, private=private)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(NotADirectoryError):  # a file above it: then it is not there
            path.unlink(missing_ok=True)


def _replace_folder(target: Path, folder: Path) -> None:
    staged = target.with_name(f".staged-{target.name}")
    shutil.rmtree(staged, ignore_errors=True)  # of a process that was killed
    try:
        _copy_folder(folder, staged)
        _delete(target)
        staged.replace(target)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def _copy_folder(source: Path, target: Path) -> None:
    """Copy contents and no modes: those of a temporary folder are for its maker alone."""
    target.mkdir(parents=True)
    for child in source.iterdir():
        if child.is_dir():
            _copy_folder(child, target / child.name)
        else:
            shutil.copyfile(child, target / child.name)


def checkpoint_key(job: str, task: str, method: str, number: int) -> str:
    """Where a trial's checkpoint lies: found by name, by any worker at any time."""
    return f"{checkpoint_folder(job, task, method)}/{number:05d}.safetensors"


def checkpoint_folder(job: str, task: str, method: str) -> str:
    """Where the checkpoints of a study's trials lie."""
    return f"{job}/checkpoints/{task}/{method}"


def answers_key(job: str, task: str, method: str) -> str:
    """Where lies what a study's winner answered on the test set."""
    return f"{job}/tested/{task}/{method}"


def bundle_key(job: str, task: str, method: str) -> str:
    """Where a study's bundle lies."""
    return f"{job}/bundles/{task}/{method}"
