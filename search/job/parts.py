"""The parts of a job: its tasks, its search, its resources. Each is strict, frozen and says what it means."""

from collections.abc import Mapping
from dataclasses import replace
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
from pipelines.tasks.registry import registered_task, registered_tasks
from pipelines.tasks.task import Files, Hub, SplitRule, Task
from pipelines.towers.config import SENTENCE, TOKEN_TABLE
from search.decisions.samplers import SAMPLERS
from search.job.names import KindName, Metric, SamplerName, SchedulerName
from search.job.values import (
    Columns,
    Concurrent,
    Count,
    DataPath,
    Experience,
    FolderOrHub,
    Minutes,
    Name,
    Seed,
    Several,
    Text,
    Uri,
    as_tuple,
    check_gpus,
    check_share,
    check_some,
    hub_path,
)
from spaces.errors import FieldError


class Part(BaseModel):
    """What all parts of a job share: no key is unknown, no type is guessed, nothing changes after birth."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)


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
        BeforeValidator(hub_path, json_schema_input_type=str | HubPart | None),
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
    folds: int | None = None
    """2 or more: cross-validation in place of a validation set, for small tasks; null: none."""
    group: Text | None = None
    """A column whose rows stay together: no group is on both sides of a cut, or in two folds."""
    seed: Seed = 0
    """Which rows are cut, which stay under a limit, and which fold each is in."""

    @model_validator(mode="after")
    def _check_rule(self) -> "SplitPart":
        self.rule()
        return self

    def rule(self) -> SplitRule:
        """The rule that the pipelines cut by. Raises InputError or InputErrors."""
        return SplitRule(**self.model_dump(exclude={"group"}))


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
    """First suggestions come from finished jobs with the same backbone, method, space: all (else from what
    ships), none or these."""
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
    """Re-running the best configurations with further seeds, after the search: those that cannot be told
    apart, within a budget; or with top and seeds as many as they say."""

    budget: Annotated[float, Field(allow_inf_nan=False), AfterValidator(check_share)] | None = None
    """What re-running may train, as a share of the epochs that the search has trained; left out: 0.25."""
    export: Literal["nearest", "best"] | None = None
    """Which run of the best mean is exported: the one nearest to it (left out), or the best one."""
    top: Count | None = None
    """How many of the best configurations, whatever they have; left out, where seeds is there: 1."""
    seeds: Count | None = None
    """Runs of each, with as many seeds, the search's own among them; left out, where top is there: 5."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        given = {key: value for key, value in raw.items() if value is not None}
        counted = "top" in given or "seeds" in given
        return {**({"top": 1, "seeds": 5} if counted else {"budget": 0.25, "export": "nearest"}), **given}

    @model_validator(mode="after")
    def _check_one_way(self) -> "ConfirmPart":
        for name in ("budget", "export"):
            if self.counted and getattr(self, name) is not None:
                rule = "top and seeds run a fixed number again, and the best run of all wins"
                fix = f"Leave {name} out, or top and seeds."
                raise FieldError(name, getattr(self, name), rule, fix)
        return self

    @property
    def counted(self) -> bool:
        """Whether as many are re-run as top and seeds say."""
        return self.top is not None


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
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(check_gpus)] = 0.0
    """GPUs of a trial; a fraction shares one GPU between trials."""
    concurrent: Concurrent = "auto"
    """Trials at once; auto: as many as the machine or cluster has room for."""
    pack: Concurrent = "auto"
    """Trials in one pass of the encoder; auto: as many as pay on a whole GPU, else one."""
    compile: Literal["auto", "off"] = "auto"
    """Whether trials on a GPU go by compiled kernels and recorded passes."""

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
    tasks = as_tuple(value)
    if not isinstance(tasks, tuple):
        return tasks
    return tuple({"name": task} if isinstance(task, str) else task for task in tasks)


def _as_mapping(value: Any) -> Any:
    """What `confirm` may be in a word: auto is a mapping with nothing said, none is null."""
    if value is None or isinstance(value, Mapping | ConfirmPart):
        return value
    if value not in ("auto", "none"):
        fix = "Write auto, none, or e.g. {budget: 0.25} or {top: 3, seeds: 3}."
        raise FieldError("", value, "needs auto, none or a mapping", fix)
    return {} if value == "auto" else None


def _check_names(vectors: dict[str, str]) -> dict[str, str]:
    for name, path in vectors.items():
        if name in (TOKEN_TABLE, SENTENCE):
            raise FieldError(name, path, "is the encoder's own embedding", "Give the file another name.")
    return vectors


Confirmation = Annotated[
    ConfirmPart | None,
    BeforeValidator(_as_mapping, json_schema_input_type=Literal["auto", "none"] | ConfirmPart | None),
]
Vectors = Annotated[dict[Name, DataPath], AfterValidator(_check_names)]
Tasks = Annotated[
    tuple[TaskPart, ...],
    AfterValidator(check_some),
    BeforeValidator(_named, json_schema_input_type=tuple[str | TaskPart, ...]),
]
