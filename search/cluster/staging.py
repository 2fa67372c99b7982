"""What a job takes to a cluster: its file, rewritten, and the small data that lies here."""

import hashlib
import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ruamel.yaml import YAML

from pipelines.locations import PACKAGE_PREFIX
from search.errors import JobError, Problem
from search.job.job import SearchJob
from search.job.parts import is_uri

JOB_FILE = "adaptune_job.yaml"
DATA_FOLDER = "adaptune_data"
LIMIT_BYTES = 200_000_000  # Ray keeps the package in its head's memory and copies it to every node
GIVE_SHARED = "Write an absolute path that every node sees, or an object store's URI."
_SECRET_WORDS = ("secret", "password", "key", "token")


def is_shared(storage: str) -> bool:
    """Whether a storage can mean the same on every node: an absolute path or a URI."""
    return "://" in storage or PurePosixPath(storage).is_absolute()


@dataclass(frozen=True, kw_only=True)
class StagedJob:
    """A job as it goes to the cluster.

    Attributes:
        yaml: the job file; what is uploaded has paths relative to it.
        uploads: local files by their names in the working directory there.
        locations: (key, path, URI or package:...) that must be on every node.
    """

    job: SearchJob
    storage: str
    yaml: str
    uploads: dict[str, Path]
    locations: tuple[tuple[str, str], ...]

    def write(self, package: Path) -> None:
        """Write the working directory as a zip: Ray leaves files of a folder out by its .gitignore."""
        with zipfile.ZipFile(
            package, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False
        ) as archive:
            archive.writestr(JOB_FILE, self.yaml)
            for name, path in self.uploads.items():
                archive.write(path, name)


def stage(job_file: Path, *, storage: str | None = None) -> StagedJob:
    """Read and check a job file here, and gather what it takes to the cluster.

    A data path is looked for here, from the job file's folder, and uploaded. An absolute one that is not here
    or that lies under the storage is the cluster's own; package:... and Hub ids go as they are.

    Raises:
        JobError: the job file is wrong, its storage is not one that nodes can share, a relative path is not
            here, or the data is too large to upload.
    """
    job = SearchJob.load(job_file, storage=storage)
    yaml = YAML()  # keeps the file as it was written, comments included
    raw = yaml.load(job_file.read_text(encoding="utf-8-sig"))
    raw["storage"] = storage or raw.get("storage") or "runs"
    staging = _Staging(folder=job_file.resolve().parent, storage=str(raw["storage"]))
    staging.check_storage()
    staging.place_job(raw)
    staging.check_size()
    if staging.problems:
        raise JobError(str(job_file), staging.problems)
    text = io.StringIO()
    yaml.dump(raw, text)
    return StagedJob(
        job=job,
        storage=staging.storage,
        yaml=text.getvalue(),
        uploads=staging.uploads,
        locations=tuple(staging.locations),
    )


def keep_submission(job_file: Path, *, storage: str | None = None) -> Path:
    """Copy a submitted job file and its uploads into the storage, where a resume finds them; the copy's path.

    Ray's own working directory goes away with the cluster. The folder is called by its content: the same
    submission lies there once, and none replaces another. An object store keeps none: submit the job again.
    """
    job = SearchJob.load(job_file, storage=storage)
    if is_uri(job.storage):
        return job_file
    here = job_file.resolve().parent
    files = sorted(
        [job_file.resolve(), *(path for path in (here / DATA_FOLDER).rglob("*") if path.is_file())]
    )
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(here)} {file.stat().st_size} ".encode())
        digest.update(file.read_bytes())
    kept = Path(job.storage) / job.name / "submitted" / digest.hexdigest()[:16]
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            for file in files:
                target = Path(folder, "whole", file.relative_to(here))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            Path(folder, "whole").rename(kept)
    return kept / job_file.name


@dataclass
class _Staging:
    """The work of `stage` on one job file."""

    folder: Path
    storage: str
    uploads: dict[str, Path] = field(default_factory=dict)
    locations: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def check_storage(self) -> None:
        """A storage that every node may see, without credentials."""
        if "://" not in self.storage:
            if not is_shared(self.storage):
                rule = "is relative, and the nodes of a cluster have no common working directory"
                self.problems.append(Problem("storage", self.storage, rule, GIVE_SHARED))
            return
        parts = urlsplit(self.storage)
        words = [key.lower() for key, _ in parse_qsl(parts.query)]
        if parts.username or any(secret in word for word in words for secret in _SECRET_WORDS):
            shown = f"{parts.scheme}://...{parts.path}"
            rule = "holds credentials, which would show in the cluster's list of jobs"
            fix = "Give them to the nodes: an instance role, or the store's own environment variables."
            self.problems.append(Problem("storage", shown, rule, fix))

    def place_job(self, raw: dict[str, Any]) -> None:
        """Rewrite every path in the job file's content."""
        backbone = str(raw["backbone"])
        if self.here(backbone).is_dir() or backbone.startswith(("/", PACKAGE_PREFIX)):
            raw["backbone"] = self.place("backbone", backbone, f"{DATA_FOLDER}/backbone")
        used: list[str] = []  # tasks whose rows are in data_dir, if they are there
        for index, task in enumerate(raw["tasks"]):
            if isinstance(task, str):
                used.append(task)
            elif task.get("files"):
                self.place_files(task["files"], index)
            elif task.get("hub"):
                self.place_hub(task, index)
            else:
                used.append(str(task["name"]))
        for name, path in (raw.get("vectors") or {}).items():
            target = f"{DATA_FOLDER}/vectors/{name}"
            raw["vectors"][name] = self.place(f"vectors.{name}", str(path), target)
        if raw.get("data_dir") is not None:
            raw["data_dir"] = self.place_data_dir(str(raw["data_dir"]), used)

    def place_files(self, files: dict[str, Any], index: int) -> None:
        for split, path in files.items():
            if path is not None:
                target = f"{DATA_FOLDER}/files/{index}/{split}"
                files[split] = self.place(f"tasks[{index}].files.{split}", str(path), target)

    def place_hub(self, task: dict[str, Any], index: int) -> None:
        hub = task["hub"] if isinstance(task["hub"], dict) else {"path": str(task["hub"])}
        path = str(hub["path"])
        if self.here(path).is_dir() or path.startswith(("/", PACKAGE_PREFIX)):
            hub["path"] = self.place(f"tasks[{index}].hub.path", path, f"{DATA_FOLDER}/hub/{index}")
            task["hub"] = hub

    def place_data_dir(self, path: str, used: list[str]) -> str | None:
        """Upload the used tasks' folders only; None if there is none, so that the cluster does not look."""
        local = self.here(path)
        if self.is_theirs(path) or not local.is_dir():
            return self.place("data_dir", path, "")
        folders = [local / name for name in used if (local / name).is_dir()]
        for folder in folders:
            self.add(folder, f"{DATA_FOLDER}/data_dir/{folder.name}")
        return f"{DATA_FOLDER}/data_dir" if folders else None

    def place(self, key: str, path: str, target: str) -> str:
        """Upload a file or folder as `target` and return its path there; the cluster's own stays as it is."""
        local = self.here(path)
        if not self.is_theirs(path) and local.exists():
            return self.add(local, f"{target}/{local.name}" if local.is_file() else target)
        if self.is_theirs(path) or Path(path).is_absolute():
            self.locations.append((key, path))
        else:
            fix = "A relative path is looked for here, from the job file's folder, and uploaded. Mend it."
            self.problems.append(Problem(key, path, "does not exist", fix))
        return path

    def here(self, path: str) -> Path:
        return self.folder / Path(path).expanduser()

    def is_theirs(self, path: str) -> bool:
        """Whether a path is the cluster's own wherever we are: in a package, a URI, or under the storage."""
        if path.startswith(PACKAGE_PREFIX) or "://" in path:
            return True
        return "://" not in self.storage and PurePosixPath(path).is_relative_to(self.storage)

    def add(self, local: Path, target: str) -> str:
        for path in _files(local):
            inside = path.relative_to(local).as_posix()
            self.uploads[target if local.is_file() else f"{target}/{inside}"] = path
        return target

    def check_size(self) -> None:
        """Refuse what Ray could not carry."""
        total = sum(path.stat().st_size for path in self.uploads.values())
        if total > LIMIT_BYTES:
            largest = max(self.uploads.values(), key=lambda path: path.stat().st_size)
            rule = f"is more than the {LIMIT_BYTES / 1e6:.0f} MB that are uploaded (largest: {largest.name})"
            fix = f"Copy it under the storage, {self.storage}, and give that absolute path in the job file."
            self.problems.append(Problem("uploads", f"{total / 1e6:.0f} MB", rule, fix))


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    else:
        yield from sorted(child for child in path.rglob("*") if child.is_file())
