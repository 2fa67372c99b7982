"""What a job takes to a cluster: its file, rewritten, and the small data that lies here."""

import hashlib
import io
import shutil
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from pipelines.locations import PACKAGE_PREFIX
from pipelines.tasks.registry import registered_task
from pipelines.tasks.task import SPLITS
from search.addresses import is_uri
from search.cluster.uploads import (
    Wanted,
    find_files,
    is_backbone_file,
    is_class_text,
    is_dataset_file,
    is_none,
    is_table_of,
)
from search.errors import JobError, LinkOut, Problem
from search.job.job import SearchJob
from search.wire import JOB_FILE

DATA_FOLDER = "adaptune_data"
LIMIT_BYTES = 200_000_000  # Ray keeps the package in its head's memory and copies it to every node
MOST_LISTED = 20  # files of a folder that are listed one by one
GIVE_SHARED = "Write an absolute path that every node sees, or an object store's URI."


def is_shared(storage: str) -> bool:
    """Whether a storage can mean the same on every node: an absolute path or a URI."""
    return is_uri(storage) or PurePosixPath(storage).is_absolute()


@dataclass(frozen=True, kw_only=True)
class StagedJob:
    """A job as it goes to the cluster.

    Attributes:
        source: the job file here.
        yaml: the job file as it goes: what is uploaded has paths relative to it.
        uploads: local files by their names in the working directory there.
        locations: (key, path, URI or package:...) that must be on every node.
    """

    source: Path
    job: SearchJob
    storage: str
    yaml: str
    uploads: dict[str, Path]
    locations: tuple[tuple[str, str], ...]

    def describe(self) -> list[str]:
        """What travels, a line for each file or folder, with sizes."""
        lines = [f"{JOB_FILE}: {format_bytes(len(self.yaml.encode()))}, from {self.source}"]
        folders: dict[Path, list[Path]] = {}
        for path in self.uploads.values():
            folders.setdefault(path.parent, []).append(path)
        for folder, paths in folders.items():
            if len(paths) > MOST_LISTED:
                total = sum(path.stat().st_size for path in paths)
                lines.append(f"{folder}/: {len(paths):,} files, {format_bytes(total)}")
            else:
                lines += [f"{path}: {format_bytes(path.stat().st_size)}" for path in paths]
        return lines

    def write(self, package: Path) -> None:
        """Write the working directory as a zip: Ray leaves files of a folder out by its .gitignore."""
        with zipfile.ZipFile(
            package, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False
        ) as archive:
            archive.writestr(JOB_FILE, self.yaml)
            for name, path in self.uploads.items():
                archive.write(path, name)


def format_bytes(count: int) -> str:
    """A size to read: 812 bytes, 1.4 MB."""
    return f"{count:,} bytes" if count < 100_000 else f"{count / 1e6:,.1f} MB"


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
        source=job_file,
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
                if file.name == job_file.name:
                    target.chmod(0o600)  # it may hold a password
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
        """A storage that every node may see."""
        if not is_shared(self.storage):
            rule = "is relative, and the nodes of a cluster have no common working directory"
            self.problems.append(Problem("storage", self.storage, rule, GIVE_SHARED))

    def place_job(self, raw: dict[str, Any]) -> None:
        """Rewrite every path in the job file's content."""
        backbone = str(raw["backbone"])
        if self.here(backbone).is_dir() or backbone.startswith(("/", PACKAGE_PREFIX)):
            raw["backbone"] = self.place("backbone", backbone, f"{DATA_FOLDER}/backbone", is_backbone_file)
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
            raw["vectors"][name] = self.place(f"vectors.{name}", str(path), target, is_none)
        if raw.get("data_dir") is not None:
            raw["data_dir"] = self.place_data_dir(str(raw["data_dir"]), used)

    def place_files(self, files: dict[str, Any], index: int) -> None:
        for split, path in files.items():
            if path is not None:
                target = f"{DATA_FOLDER}/files/{index}/{split}"
                files[split] = self.place(f"tasks[{index}].files.{split}", str(path), target, is_class_text)

    def place_hub(self, task: dict[str, Any], index: int) -> None:
        hub = task["hub"] if isinstance(task["hub"], dict) else {"path": str(task["hub"])}
        path = str(hub["path"])
        if self.here(path).is_dir() or path.startswith(("/", PACKAGE_PREFIX)):
            target = f"{DATA_FOLDER}/hub/{index}"
            hub["path"] = self.place(f"tasks[{index}].hub.path", path, target, is_dataset_file)
            task["hub"] = hub

    def place_data_dir(self, path: str, used: list[str]) -> str | None:
        """Upload the used tasks' folders only; None if there is none, so that the cluster does not look."""
        local = self.here(path)
        if self.is_theirs(path) or not local.is_dir():
            return self.place("data_dir", path, "", is_none)
        folders = [local / name for name in used if (local / name).is_dir()]
        for folder in folders:
            wanted = is_table_of({*SPLITS, *registered_task(folder.name).also})
            self.add("data_dir", folder, f"{DATA_FOLDER}/data_dir/{folder.name}", wanted, root=local)
        return f"{DATA_FOLDER}/data_dir" if folders else None

    def place(self, key: str, path: str, target: str, wanted: Wanted) -> str:
        """Upload a file, or a folder's wanted ones, as `target` and return its path there; what is the
        cluster's own stays as it is.
        """
        local = self.here(path)
        if not self.is_theirs(path) and local.exists():
            return self.add(key, local, f"{target}/{local.name}" if local.is_file() else target, wanted)
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
        if path.startswith(PACKAGE_PREFIX) or is_uri(path):
            return True
        return not is_uri(self.storage) and PurePosixPath(path).is_relative_to(self.storage)

    def add(self, key: str, local: Path, target: str, wanted: Wanted, *, root: Path | None = None) -> str:
        if local.is_file():
            self.uploads[target] = local
            return target
        try:
            for path in find_files(local, wanted, root=root):
                self.uploads[f"{target}/{path.relative_to(local).as_posix()}"] = path
        except LinkOut as error:
            rule = "is a link that leads out of its folder, and such links are not followed"
            fix = f"Put the file itself in its place, e.g. `cp -rL {local} COPY`, and give that folder."
            self.problems.append(Problem(key, str(error.path), rule, fix))
        return target

    def check_size(self) -> None:
        """Refuse what Ray could not carry."""
        total = sum(path.stat().st_size for path in self.uploads.values())
        if total > LIMIT_BYTES:
            largest = max(self.uploads.values(), key=lambda path: path.stat().st_size)
            rule = f"is more than the {LIMIT_BYTES / 1e6:.0f} MB that are uploaded (largest: {largest.name})"
            fix = f"Copy it under the storage, {self.storage}, and give that absolute path in the job file."
            self.problems.append(Problem("uploads", f"{total / 1e6:.0f} MB", rule, fix))
