"""The job: what to search, over which tasks, with what. The form in which all else sees a job file."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipelines.method import METHODS
from pipelines.tasks.task import SplitRule, Task
from search.addresses import is_uri, storage_problem
from search.decisions.samplers import SAMPLERS
from search.errors import JobError, Problem
from search.job.file import dotted, problems_of, read_yaml
from search.job.parts import (
    BudgetPart,
    CachePart,
    Confirmation,
    ConfirmPart,
    Part,
    ResourcesPart,
    SearchPart,
    SplitPart,
    Tasks,
    TrackingPart,
    Vectors,
)
from search.job.space import Methods, Spaces, space_schema
from search.job.values import DataPath, FolderOrHub, Minutes, Name, Text, Uri, absolute
from search.secrets import hide_secrets
from spaces import FieldError, Space


class SearchJob(Part):
    """Everything about one search, checked at birth.

    From a file by ``load``, from a mapping by ``parse``, or from Python by its keys. Data paths, storage and
    databases are absolute afterwards.

    Raises:
        JobError: with everything that is wrong, not only the first.
    """

    name: Name = Field(examples=["support-tickets"])
    """The job's name; its studies, its folder and its MLflow experiment are called by it."""
    backbone: FolderOrHub = Field(examples=["bert-base-uncased"])
    """The frozen encoder: a Hub id, a folder (relative to the job file), or package:NAME/PATH."""
    tasks: Tasks = Field(examples=[["glue_cola"]], json_schema_extra={"minItems": 1})
    """What to learn: names of registered tasks, or your own as mappings."""
    data_dir: DataPath | None = None
    """A folder with <task>/{train,validation,test}.parquet, for tasks without files or hub."""
    split: SplitPart = SplitPart()
    """How missing splits are cut."""
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 128
    """Tokens of a text that the encoder sees; the rest is cut off."""
    pooling: Literal["auto", "pooler", "cls", "mean"] = "auto"
    """What the head sees of a text; auto: the frozen pooler where the checkpoint has one, else cls."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the encoder; auto: bf16 where the hardware has it, else fp32."""
    methods: Methods = Field(("adapter",), alias="method")
    """What trains: a method or a list of them; each task is searched with each."""
    vectors: Vectors = Field({}, examples=[{"glove": "vectors/glove.6B.50d.txt"}])
    """Word vectors for the method embeddings: text files, by the names that a space has for them."""
    spaces: Spaces = Field("default", alias="space", validate_default=True)
    """What is searched: a preset's name, parameters, or a mapping from method to one of these."""
    search: SearchPart = SearchPart()
    """Which sampler, how many trials, which seed."""
    baseline: Literal["auto", "none"] = "auto"
    """A linear probe of each task, which every winner is compared with; none: do without."""
    confirm: Confirmation = ConfirmPart()
    """Run the best configurations again with further seeds: auto: those that cannot be told apart."""
    refit: bool | None = None
    """Train the winner again, on train and validation; null: where there are folds, which need it."""
    budget: BudgetPart = BudgetPart()
    """What ends the search before its trials are used up."""
    trial_timeout: Minutes | None = None
    """Minutes that a trial may take; one that takes longer has failed. null: as long as it needs."""
    resources: ResourcesPart = ResourcesPart()
    """CPU cores and GPUs of a trial, and trials at once."""
    cache: CachePart = CachePart()
    """What is kept of layers that no trial trains, for all jobs of a storage."""
    storage: Text = Field("runs", validate_default=True)
    """Where all state of all jobs lives: a folder (relative to the working directory), or a URI."""
    database: Uri | None = Field(None, validate_default=True)
    """SQLAlchemy URI of the studies; null: studies.db under storage. Required where storage is a URI."""
    tracking: TrackingPart = Field(TrackingPart(), validate_default=True)
    """MLflow's store and experiment."""

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, storage: str | None = None) -> Self:
        """Read a job file; ``storage`` takes the place of the file's own. Raises JobError."""
        file = Path(path)
        raw = dict(read_yaml(file))
        if storage is not None:
            raw["storage"] = storage
        return cls.parse(raw, source=str(file), folder=file.parent)

    @classmethod
    def parse(cls, raw: Mapping[str, Any], *, source: str = "job", folder: Path | None = None) -> Self:
        """Read a job as a file has it; data paths are relative to ``folder``. Raises JobError."""
        place = (folder or Path()).absolute()
        return cls.model_validate(raw, context={"source": source, "folder": place})

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The job that ``to_dict`` wrote, here or elsewhere: no path is looked at. Raises JobError."""
        return cls.model_validate(raw, context={"source": "job", "folder": None})

    def to_dict(self) -> dict[str, Any]:
        """The whole job, defaults included, in JSON's types and with absolute paths."""
        return self.model_dump(mode="json", by_alias=True)

    def to_record(self) -> dict[str, Any]:
        """`to_dict` for others to read: without the passwords in addresses."""
        content = self.to_dict()
        for part, key in ((content, "database"), (content["tracking"], "uri")):
            part[key] = part[key] and hide_secrets(part[key])
        return content

    @model_validator(mode="wrap")
    @classmethod
    def _report_everything(
        cls, raw: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        problems = _repeated_names(raw)
        try:
            job = handler(raw)
        except ValidationError as error:
            problems = problems_of(error, cls, raw) + problems
        if problems:
            raise JobError(info.context["source"] if info.context else "job", problems)
        return job

    @field_validator("search")
    @classmethod
    def _check_sampler(cls, search: SearchPart, info: ValidationInfo) -> SearchPart:
        spaces: dict[str, Space] = info.data.get("spaces", {})
        ranges = [f"{method}: {name}" for method, space in spaces.items() for name in space.ranges]
        sampler = SAMPLERS[search.sampler]
        if sampler.needs_finite and ranges:
            rule = f"{sampler.title} needs lists of values, and the space has ranges ({', '.join(ranges)})"
            raise FieldError("sampler", sampler.name, rule, "Write lists, or use another sampler.")
        return search

    @field_validator("vectors")
    @classmethod
    def _check_vectors(cls, vectors: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        readers = [name for name, method in METHODS.items() if method.reads_vectors]
        if vectors and not {*readers} & {*info.data.get("methods", readers)}:
            rule = f"the method {' or '.join(readers)} alone reads word vectors"
            raise FieldError("", vectors, rule, f"Add {readers[0]} to method, or take the vectors out.")
        return vectors

    @field_validator("refit")
    @classmethod
    def _check_refit(cls, refit: bool | None, info: ValidationInfo) -> bool | None:
        split: SplitPart | None = info.data.get("split")
        if refit is False and split is not None and split.folds is not None:
            rule = "split.folds leaves a model for each fold: the adapter is trained on all rows afterwards"
            raise FieldError("", refit, rule, "Leave refit out, or split.folds.")
        return refit

    @field_validator("resources")
    @classmethod
    def _check_resources(cls, resources: ResourcesPart, info: ValidationInfo) -> ResourcesPart:
        alone = [name for name in info.data.get("methods", ()) if not METHODS[name].packed]
        if resources.packed and alone:
            rule = f"trials of the method {alone[0]} train alone, on CPU cores, and never in a pack"
            fix = f"Write pack: 1, or give {alone[0]} a job of its own without GPUs."
            raise FieldError("pack", resources.pack, rule, fix)
        return resources

    @field_validator("storage")
    @classmethod
    def _make_storage_absolute(cls, storage: str) -> str:
        if problem := storage_problem(storage):
            raise FieldError("", storage, *problem)
        return storage if is_uri(storage) else absolute(storage, Path.cwd())

    @field_validator("database")
    @classmethod
    def _check_database(cls, database: str | None, info: ValidationInfo) -> str | None:
        if database is None and is_uri(info.data.get("storage", "")):
            fix = "Give a SQLAlchemy URI, e.g. postgresql+psycopg://user@host/adaptune."
            raise FieldError("", None, "is required where storage is a URI", fix)
        return database

    @field_validator("tracking")
    @classmethod
    def _check_tracking(cls, tracking: TrackingPart, info: ValidationInfo) -> TrackingPart:
        if tracking.uri is None and is_uri(info.data.get("storage", "")):
            fix = "Give the URI of an MLflow server: its SQLite file cannot lie in an object store."
            raise FieldError("uri", None, "is required where storage is a URI", fix)
        return tracking

    def resolved_tasks(self) -> tuple[Task, ...]:
        """The tasks as the pipelines take them, in the job's order."""
        return tuple(replace(task.task(), group=self.split.group) for task in self.tasks)

    @property
    def refits(self) -> bool:
        """Whether the winner is trained again on all rows."""
        return bool(self.refit) or self.split.folds is not None

    def split_rule(self) -> SplitRule:
        """How missing splits are cut, as the pipelines take it."""
        return self.split.rule()

    def space_for(self, method: str) -> Space:
        """What is searched with a method. Raises KeyError for a method that the job does not have."""
        return self.spaces[method]

    def content(self) -> dict[str, Any]:
        """What decides the results: all but where things lie, what they run on and how they are shown.

        Two jobs with the same content, backbone and rows are the same search. Where rows come from is left
        out: their own fingerprint stands for them.
        """
        elsewhere = {"tasks", "data_dir", "budget", "trial_timeout", "resources", "storage", "database"}
        elsewhere |= {"tracking", "cache", "vectors", "baseline", "refit"}
        content = {key: value for key, value in self.to_dict().items() if key not in elsewhere}
        # Keys that came later stand only where they say something: earlier records do not have them.
        # As before there was auto. What a search that was begun so does, `runner` asks its record.
        counted = self.confirm if self.confirm is not None and self.confirm.counted else None
        content["confirm"] = counted and counted.model_dump(include={"top", "seeds"})
        content["split"] = {key: value for key, value in content["split"].items() if value is not None}
        if self.refits:
            content["refit"] = True
        tasks = [asdict(task) for task in self.resolved_tasks()]
        left = ("files", "hub", "group")
        content["tasks"] = [{k: v for k, v in task.items() if k not in left} for task in tasks]
        return cast(dict[str, Any], json.loads(json.dumps(content)))

    def fingerprint(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()


def _repeated_names(raw: Any) -> list[Problem]:
    """Tasks with the name of an earlier one, looked for in what was written, whatever else is wrong."""
    tasks = raw.get("tasks") if isinstance(raw, Mapping) else None
    seen: set[str] = set()
    problems = []
    for index, task in enumerate(tasks if isinstance(tasks, list | tuple) else ()):
        name = task.get("name") if isinstance(task, Mapping) else task
        if not isinstance(name, str):
            continue
        if name in seen:
            key = f"tasks[{index}]" if task is name else f"tasks[{index}].name"
            fix = "Give each task a name of its own."
            problems.append(Problem(key, name, "is the name of an earlier task", fix))
        seen.add(name)
    return problems


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between the contents of two jobs: a line each, ``search.trials: 18 -> 30``."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return [
        f"{key}: {_show(before, key)} -> {_show(after, key)}"
        for key in dict.fromkeys([*before, *after])
        if key not in before or key not in after or before[key] != after[key]
    ]


def _show(leaves: Mapping[str, Any], key: str) -> str:
    return json.dumps(leaves[key], ensure_ascii=False) if key in leaves else "(absent)"


def _leaves(content: Any, location: tuple[int | str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Values by dotted key; a list of plain values is one value."""
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _leaves(value, (*location, key))
    elif isinstance(content, list) and any(isinstance(value, Mapping) for value in content):
        for index, value in enumerate(content):
            yield from _leaves(value, (*location, index))
    else:
        yield dotted(location), content


def job_schema() -> dict[str, Any]:
    """JSON schema of the job file, for editors."""
    schema = SearchJob.model_json_schema(by_alias=True)
    space, definitions = space_schema()
    schema["properties"]["space"] |= space
    schema["$defs"] |= definitions
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "adaptune job file"}
