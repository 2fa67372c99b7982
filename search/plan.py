"""What a job comes to: its data read, its backbone loaded, everything known to be usable before it starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions
from typing import Any

from pipelines.encoder.backbone import Backbone, load_backbone
from pipelines.encoder.tokens import check_max_tokens, encode
from pipelines.errors import InputError, InputErrors
from pipelines.method import METHODS
from pipelines.tasks.encoded import EncodedTask, encode_task
from pipelines.tasks.rows import TaskData, read_task
from pipelines.towers.vectors import WordVectors, read_vectors
from search.decisions.portfolio import TaskFacts
from search.errors import JobError, Problem
from search.job.job import SearchJob
from spaces import Choice, Range, Space

SAMPLE = 256  # texts that tell how long a task's are
OURS = ("search", "spaces", "pipelines")  # common names: another package may bring them too


@dataclass(frozen=True)
class Plan:
    """A job that can run.

    Attributes:
        tasks: their data, in the job's order.
        pooling: resolved against the backbone.
        vectors: the job's word vectors, by name.
    """

    job: SearchJob
    tasks: tuple[TaskData, ...]
    backbone: Backbone
    pooling: str
    vectors: Mapping[str, WordVectors] = field(default_factory=dict)
    _counts: dict[tuple[Any, ...], int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def trials(self) -> int:
        """How many trials the job asks for, a finite space's size being the most there is."""
        return len(self.tasks) * sum(self.trials_of(method) for method in self.job.methods)

    @property
    def vector_fingerprints(self) -> dict[str, str]:
        """SHA-256 of the job's word vectors, by name."""
        return {name: one.fingerprint for name, one in self.vectors.items()}

    def trials_of(self, method: str) -> int:
        """How many trials one study of a method asks for."""
        size = self.job.space_for(method).size
        return self.job.search.trials if size is None else min(self.job.search.trials, size)

    def encode(self) -> list[EncodedTask]:
        """The tasks as trials see them, with what each of the job's methods reads."""
        encoded = [encode_task(data, self.backbone, self.job.max_tokens) for data in self.tasks]
        for method in self.job.methods:
            searched = searched_values(self.job.space_for(method))
            encoded = [
                METHODS[method].prepare(task, data, self.backbone, searched=searched, vectors=self.vectors)
                for task, data in zip(encoded, self.tasks, strict=True)
            ]
        return [
            task if data.folds is None else task.in_folds(data.folds)
            for task, data in zip(encoded, self.tasks, strict=True)
        ]

    def facts_of(self, data: TaskData) -> TaskFacts:
        """What is known of a task of texts before anything is trained."""
        texts = data.train.texts[:SAMPLE]
        return TaskFacts(
            kind=data.task.kind,
            rows=len(data.train),
            classes=max(1, len(data.labels)),
            tokens=float(encode(texts, self.backbone.tokenizer, self.job.max_tokens).lengths.mean()),
            width=self.backbone.width,
        )

    def count_trained(self, method: str, outputs: int, params: Mapping[str, Any], *, columns: int = 1) -> int:
        """How many parameters a configuration trains; counted once for each of those that decide it.

        Args:
            columns: the texts of an example: 1, or 2 for pairs.
        """
        row = METHODS[method]
        deciding = {name: value for name, value in params.items() if name not in row.sizeless}
        key = (method, outputs, columns, *sorted(deciding.items()))
        if key not in self._counts:
            config = row.config(deciding, seed=0)
            self._counts[key] = row.count_trained(
                self.backbone, config, outputs=outputs, columns=columns, vectors=self.vectors
            )
        return self._counts[key]

    def allows(self, task: str, method: str, params: Mapping[str, Any]) -> bool:
        """Whether a configuration keeps the job's limit of trained parameters."""
        limit = self.job.search.max_trained_parameters
        if limit is None:
            return True
        data = next(one for one in self.tasks if one.task.name == task)
        return self.count_trained(method, data.outputs, params, columns=len(data.task.text)) <= limit

    def trained_parameters(self, method: str, outputs: int, *, columns: int = 1) -> tuple[int, int]:
        """The fewest and the most parameters that a trial of the method trains."""
        counts = [
            self.count_trained(method, outputs, params, columns=columns) for params in self.corners(method)
        ]
        return min(counts), max(counts)

    def corners(self, method: str) -> list[dict[str, Any]]:
        """The extreme configurations of a method's space, in the parameters that decide how much trains."""
        space = self.job.space_for(method)
        deciding = {condition.name for _, parameter in space.parameters for condition in parameter.when}
        axes: dict[str, Sequence[Any]] = {}
        for name, parameter in space.parameters:
            if isinstance(parameter, Range):
                axes[name] = (parameter.low, parameter.high)
            elif name not in deciding and all(type(value) is int for value in parameter.values):
                numbers = [value for value in parameter.values if isinstance(value, int)]
                axes[name] = sorted({min(numbers), max(numbers)})
            else:
                axes[name] = parameter.values
        found: list[dict[str, Any]] = [{}]
        for name in space.order:
            if name in METHODS[method].sizeless and name not in deciding:
                continue
            grown = []
            for params in found:
                values = axes[name] if space.exists(name, params) else ()
                grown += [{**params, name: value} for value in values] or [params]
            found = grown
        return found


def make_plan(job: SearchJob, *, source: str = "job", problems: Sequence[Problem] = ()) -> Plan:
    """Read a job's data and load its backbone.

    Args:
        problems: known already, and reported with the rest.

    Raises:
        JobError: everything about tasks and backbone that cannot be used, at once.
    """
    problems = list(problems)
    tasks: list[TaskData] = []
    for task in job.resolved_tasks():
        try:
            tasks.append(read_task(task, data_dir=job.data_dir, split=job.split_rule()))
        except (InputError, InputErrors) as error:
            problems += _problems(error)
    vectors: dict[str, WordVectors] = {}
    for name, path in job.vectors.items():
        try:
            vectors[name] = read_vectors(name, path)
        except InputError as error:
            problems += _problems(error)
    backbone, pooling = None, ""
    try:
        backbone = load_backbone(job.backbone)
        pooling = backbone.pooling(job.pooling)
        check_max_tokens(backbone.name, backbone.tokenizer, job.max_tokens)
    except InputError as error:
        problems += _problems(error)
    if problems or backbone is None:
        raise JobError(source, problems)
    plan = Plan(job, tuple(tasks), backbone, pooling, vectors)
    if (
        wrong := _kind_problems(plan)
        or _depth_problems(plan)
        or _limit_problems(plan)
        or _encoding_problems(plan)
    ):
        raise JobError(source, wrong)
    return plan


def name_collisions() -> list[str]:
    """Installed distributions other than ours that bring a package called as one of ours, a line each."""
    owners = packages_distributions()
    return [
        f"{other!r} also installs a package called {package!r}: one of the two hides the other. "
        f"Uninstall {other!r}, or give adaptune an environment of its own."
        for package in OURS
        for other in sorted(set(owners.get(package, [])) - {"adaptune"})
    ]


def searched_values(space: Space) -> dict[str, set[object]]:
    """What a trial may have of each parameter that is chosen from a list; None where it may be without."""
    return {
        name: {*parameter.values, *((None,) if parameter.when else ())}
        for name, parameter in space.parameters
        if isinstance(parameter, Choice)
    }


def _kind_problems(plan: Plan) -> list[Problem]:
    """Tasks of a kind that a method cannot learn."""
    problems = []
    for method in plan.job.methods:
        for data in plan.tasks:
            try:
                METHODS[method].check_data(data)
            except InputError as error:
                problems += _problems(error)
    return problems


def _depth_problems(plan: Plan) -> list[Problem]:
    """Parameters that do not fit the encoder: layers that it does not have."""
    found: dict[tuple[str, object], Problem] = {}
    for method in plan.job.methods:
        for params in plan.corners(method):
            try:
                plan.count_trained(method, 1, params)
            except InputError as error:
                key = f"space.{error.key}" if len(plan.job.methods) == 1 else f"space.{method}.{error.key}"
                found[key, error.value] = Problem(key, error.value, error.rule, error.fix)
    return list(found.values())


def _limit_problems(plan: Plan) -> list[Problem]:
    """A limit of trained parameters that no configuration keeps."""
    limit = plan.job.search.max_trained_parameters
    problems = []
    for data in plan.tasks if limit is not None else ():
        for method in plan.job.methods:
            fewest, _ = plan.trained_parameters(method, data.outputs, columns=len(data.task.text))
            if limit is not None and fewest > limit:
                rule = f"{data.task.name}/{method}: the smallest configuration trains {fewest:,} parameters"
                fix = "Allow more, or search smaller sizes."
                problems.append(Problem("search.max_trained_parameters", limit, rule, fix))
    return problems


def _encoding_problems(plan: Plan) -> list[Problem]:
    """Too few tokens for what a task's kind asks."""
    problems = []
    for data in plan.tasks:
        try:
            data.rules.check_encoding(data.train, plan.backbone, plan.job.max_tokens, data.task.name)
        except InputError as error:
            problems += _problems(error)
    return problems


def _problems(error: InputError | InputErrors) -> list[Problem]:
    errors = error.problems if isinstance(error, InputErrors) else (error,)
    return [Problem(one.key, one.value, one.rule, one.fix) for one in errors]
