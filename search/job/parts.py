"""The parts of a job: its tasks, its search, its resources. Each is strict, frozen and says what it means."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipelines.errors import nearest
from pipelines.kinds import KINDS
from pipelines.locations import DOWNLOAD, NO_FILE, is_address
from pipelines.tasks.registry import registered_task, registered_tasks
from pipelines.tasks.task import Files, Hub, SplitRule, Task
from pipelines.towers.config import SENTENCE, TOKEN_TABLE
from search.addresses import is_uri, sqlite_url
from search.decisions.samplers import SAMPLERS
from search.job.names import KindName, Metric, SamplerName, SchedulerName
from spaces.errors import FieldError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
PACKAGE = re.compile(r"package:\w+(/.+)?")
MOST = 10**12  # of anything that is counted


class Part(BaseModel):
    """What all parts of a job share: no key is unknown, no type is guessed, nothing changes after birth."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)


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


def _check_gpus(gpus: float) -> float:
    if gpus > 1 and gpus != int(gpus):
        raise FieldError("", gpus, "above 1 needs whole GPUs", f"Write {int(gpus)}.")
    return gpus


def _hub_path(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def one_or_more(value: Any) -> Any:
    """One text is a tuple of one, a list a tuple; anything else is left for its type's check."""
    return (value,) if isinstance(value, str) else _as_tuple(value)


Text = Annotated[str, Field(min_length=1), BeforeValidator(_as_text)]
Name = Annotated[str, AfterValidator(_check_name), Field(json_schema_extra={"pattern": f"^{NAME.pattern}$"})]
DataPath = Annotated[Text, AfterValidator(_absolute_path)]
FolderOrHub = Annotated[Text, AfterValidator(_absolute_folder)]
Several = BeforeValidator(_as_tuple)
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


class FilesPart(Part):
    """A task's own rows: csv, tsv, jsonl, parquet, or a folder with one folder per class; SQuAD's json."""

    train: DataPath = Field(examples=["data/train.csv"])
    """The training rows; relative to the job file."""
    validation: DataPath | None = None
    """The validation rows; left out, they are cut from train."""
    test: DataPath | None = None
    """The test rows; left out, they are cut from train."""


class HubPart(Part):
    """A dataset on the Hugging Face Hub, or a folder that `datasets` reads."""

    path: FolderOrHub = Field(examples=["nyu-mll/glue"])
    """The dataset's id."""
    config: Text | None = None
    """Its configuration, where it has several."""
    train: Text = "train"
    """The split to train on."""
    validation: Text | None = "validation"
    """The split to choose by; null: cut from train."""
    test: Text | None = "test"
    """The split to report on; null: cut from train."""
    revision: Text | None = None
    """A branch, tag or commit; null: the newest."""
    text: Columns = ()
    """Its text columns, where they are named otherwise than the task's."""
    labels: Annotated[tuple[Text, ...], Several] = ()
    """The names of its integer labels, in order, where the dataset does not tell."""


class LimitPart(Part):
    """The most rows to use of each split; which ones, split.seed decides."""

    train: Count | None = None
    """Training rows."""
    validation: Count | None = None
    """Validation rows."""
    test: Count | None = None
    """Test rows."""


class TaskPart(Part):
    """A task: your own, with files or hub; or the registered one, with what is given changed."""

    name: Name = Field(examples=["tickets"])
    """The task's name; its folders are called by it."""
    files: FilesPart | None = None
    """Files with the rows."""
    hub: Annotated[
        HubPart | None,
        BeforeValidator(_hub_path, json_schema_input_type=str | HubPart | None),
    ] = None
    """A dataset on the Hub with the rows: its id, or a mapping."""
    text: Columns | None = None
    """The column of the text, or the two of a pair; left out: text (of spans: question, context)."""
    label: Text | None = None
    """The column of the labels; left out: label (of spans: answers_text)."""
    kind: KindName | None = None
    """What is predicted: a class (the default), a number, or a span: an answer in its context."""
    metric: Metric | None = None
    """The metric that chooses; left out: accuracy; spearman for a regression; squad_f1 for spans."""
    metrics: Annotated[tuple[Metric, ...], Several] | None = None
    """More metrics to record."""
    positive: Text | None = None
    """The label that f1 is about; left out: the macro average."""
    limit: LimitPart | None = None
    """The most rows to use of each split; left out: all."""

    @model_validator(mode="after")
    def _check_task(self) -> "TaskPart":
        self.task()
        return self

    def task(self) -> Task:
        """The task that the pipelines train. Raises InputError, InputErrors or FieldError."""
        given = {key: value for key, value in self if value is not None}
        if self.limit:
            given["limit"] = self.limit.model_dump(exclude_none=True)
        if self.files:
            given["files"] = Files(**self.files.model_dump())
        if self.hub:
            given["hub"] = Hub(**self.hub.model_dump())
        if self.files or self.hub:
            kind = KINDS[self.kind or "classification"]
            return Task(**{"text": kind.text, "label": kind.label, **given})
        registered = {task.name for task in registered_tasks()}
        if self.name not in registered and len(given) > 1:
            rule = "a task that is not registered needs files or hub"
            fix = f"Say where its rows are. If {self.name!r} is meant to be registered: "
            raise FieldError("files", None, rule, fix + nearest(self.name, registered))
        return replace(registered_task(self.name), **given)


class SplitPart(Part):
    """How a missing split is cut from train: fractions of its rows, stratified by class."""

    validation: float = 0.1
    """The fraction for validation, between 0 and 1."""
    test: float = 0.1
    """The fraction for test, between 0 and 1."""
    seed: Seed = 0
    """Which rows are cut, and which stay under a limit."""

    @model_validator(mode="after")
    def _check_rule(self) -> "SplitPart":
        self.rule()
        return self

    def rule(self) -> SplitRule:
        """The rule that the pipelines cut by. Raises InputError or InputErrors."""
        return SplitRule(**self.model_dump())


class SearchPart(Part):
    """How configurations are chosen."""

    sampler: SamplerName = "tpe"
    """What proposes configurations: Optuna's TPE, Gaussian process or CMA-ES, chance, or each in turn."""
    scheduler: SchedulerName = "halving"
    """What ends trials early: successive halving that pauses and promotes, the median rule, or nothing."""
    reduction: Annotated[int, Field(ge=2, le=100)] = 3
    """Of halving: rungs are at 1, reduction, reduction² … epochs; from each the better half goes on."""
    objectives: Annotated[tuple[Literal["score", "trained_parameters"], ...], Several] = ("score",)
    """What is looked for: the best score, or with trained_parameters the front of score against size."""
    max_trained_parameters: Count | None = None
    """The most parameters that a trial may train; larger configurations are not run. null: any number."""
    experience: Experience = "auto"
    """First suggestions come from finished jobs with the same backbone, method, space: all, none or these."""
    patience: Count | None = None
    """Epochs without a better score after which a trial is complete; null: it trains all its epochs."""
    trials: Annotated[int, Field(ge=1, le=1_000_000)] = 18
    """Configurations to try, per task and method."""
    seed: Seed = 0
    """Seeds the sampler and every trial's training."""

    @field_validator("objectives")
    @classmethod
    def _check_objectives(cls, objectives: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "score" not in objectives or len(set(objectives)) < len(objectives):
            fix = "Write [score] or [score, trained_parameters]."
            raise FieldError("", list(objectives), "needs score, and nothing twice", fix)
        sampler = SAMPLERS.get(info.data.get("sampler", ""))  # none where it is wrong already
        if len(objectives) > 1 and sampler is not None and not sampler.several_objectives:
            rule = f"{sampler.title} has one objective"
            raise FieldError("", list(objectives), rule, "Use the sampler tpe.")
        return tuple(sorted(objectives))

    @property
    def pareto(self) -> bool:
        """Whether size counts beside the score."""
        return len(self.objectives) > 1


class ConfirmPart(Part):
    """Re-running the best configurations with further seeds, after the search."""

    top: Count = 1
    """How many of the best configurations."""
    seeds: Count = 5
    """Runs of each, with as many seeds; the search's own run is one of them."""


class BudgetPart(Part):
    """What ends a search before its trials are used up: the first that is reached."""

    minutes: Minutes | None = None
    """Wall-clock minutes of the search, summed over its restarts."""
    training_minutes: Minutes | None = None
    """Training minutes, summed over all trials of the job."""
    target: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """A validation score that is good enough; each task and method ends when it has one."""


class ResourcesPart(Part):
    """What one trial takes, and how many run at once."""

    cpus: Count = 1
    """CPU cores of a trial."""
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_check_gpus)] = 0.0
    """GPUs of a trial; a fraction shares one GPU between trials."""
    concurrent: Concurrent = "auto"
    """Trials at once; auto: as many as the machine or cluster has room for."""
    pack: Concurrent = "auto"
    """Trials in one pass of the encoder; auto: as many as pay on a whole GPU, else one."""

    @property
    def packed(self) -> bool:
        """Whether trials train in packs, at a host of several, instead of in a worker each."""
        return self.gpus >= 1 if self.pack == "auto" else self.pack > 1


class CachePart(Part):
    """What is kept of layers that no trial trains."""

    gigabytes: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 4.0
    """The most to keep under storage (10^9 bytes); the oldest unused goes first. 0: nothing."""


class TrackingPart(Part):
    """Where MLflow keeps what it shows."""

    uri: Uri | None = None
    """MLflow's tracking URI; null: mlflow.db under storage."""
    experiment: Text | None = None
    """MLflow's experiment; null: the job's name."""


def _named(value: Any) -> Any:
    tasks = _as_tuple(value)
    if not isinstance(tasks, tuple):
        return tasks
    return tuple({"name": task} if isinstance(task, str) else task for task in tasks)


def _check_names(vectors: dict[str, str]) -> dict[str, str]:
    for name, path in vectors.items():
        if name in (TOKEN_TABLE, SENTENCE):
            raise FieldError(name, path, "is the encoder's own embedding", "Give the file another name.")
    return vectors


Vectors = Annotated[dict[Name, DataPath], AfterValidator(_check_names)]
Tasks = Annotated[
    tuple[TaskPart, ...],
    AfterValidator(check_some),
    BeforeValidator(_named, json_schema_input_type=tuple[str | TaskPart, ...]),
]
