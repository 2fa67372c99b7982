"""What a job comes to: its data read, its backbone loaded, everything known to be usable before it starts."""

from dataclasses import dataclass
from importlib.metadata import packages_distributions

from pipelines.backbone import Backbone, load_backbone
from pipelines.config import TrainConfig
from pipelines.data import TaskData, read_task
from pipelines.errors import InputError, InputErrors
from pipelines.methods import count_trained
from pipelines.tokens import check_max_tokens
from search.errors import JobError, Problem
from search.job import SearchJob

OURS = ("search", "spaces", "pipelines")  # common names: another package may bring them too


@dataclass(frozen=True)
class Plan:
    """A job that can run.

    Attributes:
        tasks: their data, in the job's order.
        pooling: resolved against the backbone.
    """

    job: SearchJob
    tasks: tuple[TaskData, ...]
    backbone: Backbone
    pooling: str

    @property
    def trials(self) -> int:
        """How many trials the job asks for, a finite space's size being the most there is."""
        return len(self.tasks) * sum(self.trials_of(method) for method in self.job.methods)

    def trials_of(self, method: str) -> int:
        """How many trials one study of a method asks for."""
        size = self.job.space_for(method).size
        return self.job.search.trials if size is None else min(self.job.search.trials, size)

    def trained_parameters(self, method: str, outputs: int) -> tuple[int, int]:
        """The fewest and the most parameters that a trial of the method trains."""
        sizes = self.job.space_for(method).bounds("adapter_size") or (TrainConfig.adapter_size,)
        counts = [
            count_trained(self.backbone, TrainConfig(method=method, adapter_size=int(size)), outputs=outputs)
            for size in (min(sizes), max(sizes))
        ]
        return counts[0], counts[1]


def make_plan(job: SearchJob, *, source: str = "job") -> Plan:
    """Read a job's data and load its backbone.

    Raises:
        JobError: everything about tasks and backbone that cannot be used, at once.
    """
    problems: list[Problem] = []
    tasks: list[TaskData] = []
    for task in job.resolved_tasks():
        try:
            tasks.append(read_task(task, data_dir=job.data_dir, split=job.split_rule()))
        except (InputError, InputErrors) as error:
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
    return Plan(job, tuple(tasks), backbone, pooling)


def name_collisions() -> list[str]:
    """Installed distributions other than ours that bring a package called as one of ours, a line each."""
    owners = packages_distributions()
    return [
        f"{other!r} also installs a package called {package!r}: one of the two hides the other. "
        f"Uninstall {other!r}, or give adaptune an environment of its own."
        for package in OURS
        for other in sorted(set(owners.get(package, [])) - {"adaptune"})
    ]


def _problems(error: InputError | InputErrors) -> list[Problem]:
    errors = error.problems if isinstance(error, InputErrors) else (error,)
    return [Problem(one.key, one.value, one.rule, one.fix) for one in errors]
