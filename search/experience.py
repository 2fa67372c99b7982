"""What a study begins with: what earlier jobs taught, found in the record, or else what ships."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pipelines.method import find_method
from pipelines.tasks.rows import TaskData
from search.decisions.experience import portfolio
from search.decisions.portfolio import RecordedTask, TaskFacts, suggest
from search.errors import NewerRecord, UserError
from search.job.job import SearchJob
from search.plan import Plan
from search.record import Experience
from search.study import Record, Study
from spaces import Space

SHIPPED = Path(__file__).parent / "portfolio.json"  # made by benchmarks/portfolio.py


class Shipped(NamedTuple):
    """The record that ships.

    Attributes:
        name: as users are told of it.
        method: that was searched.
        tasks: what came of it.
    """

    name: str
    method: str
    tasks: tuple[RecordedTask, ...]


@cache
def shipped(path: Path = SHIPPED) -> Shipped:
    """The record that ships with adaptune, or another such file."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    tasks = tuple(
        RecordedTask(
            one["name"],
            TaskFacts(**{key: one[key] for key in ("kind", "rows", "classes", "tokens", "width")}),
            one["layers"],
            tuple(
                (dict(zip(raw["parameters"], values, strict=True)), regret)
                for *values, regret in one["regrets"]
            ),
        )
        for one in raw["tasks"]
    )
    return Shipped(raw["name"], raw["method"], tasks)


def begin(plan: Plan, data: TaskData, method: str, own: Experience) -> Experience:
    """What the study of a task and method begins with: its user's own jobs' experience where there is some,
    else, where the job has `experience: auto`, what ships.

    Args:
        own: what `gather` gave.
    """
    known = shipped()
    if own.portfolio or plan.job.search.experience != "auto" or method != known.method:
        return own
    if data.task.kind not in {task.facts.kind for task in known.tasks}:
        return own
    first = suggest(
        known.tasks,
        plan.facts_of(data),
        plan.job.space_for(method),
        default=find_method(method).config({}, seed=0).to_dict(),
        layers=plan.backbone.depth,
    )
    return Experience(portfolio=tuple(first), shipped=known.name if first else "")


def gather(
    record: Record, job: SearchJob, method: str, *, fingerprint: str, vectors: Mapping[str, str] | None = None
) -> Experience:
    """What a job begins with for a method: the studies that it learns from, and its first configurations.

    Args:
        fingerprint: the backbone's.
        vectors: the fingerprints of the job's word vectors.

    Raises:
        UserError: the job names another that is not there, or has no such study.
    """
    space = job.space_for(method)
    earlier = find_earlier(
        record, job.search.experience, job=job.name, method=method, fingerprint=fingerprint, space=space
    )
    if find_method(method).reads_vectors:  # a name in the space must stand for the same vectors
        earlier = [study for study in earlier if study.facts.vectors == (vectors or {})]
    first = portfolio([study.trials() for study in earlier], space)
    return Experience(tuple(study.name for study in earlier), tuple(first))


def find_earlier(
    record: Record, wanted: str | Sequence[str], *, job: str, method: str, fingerprint: str, space: Space
) -> list[Study]:
    """The completed studies of other jobs with the same backbone, method and space, by name.

    Args:
        wanted: `auto`, `none`, or names of jobs.
        job: the job that asks; its own studies are none of its experience.
        fingerprint: the backbone's.

    Raises:
        UserError: a named job is not there, or has no such study.
    """
    if wanted == "none":
        return []
    names = record.jobs() if isinstance(wanted, str) else wanted
    earlier: list[Study] = []
    for name in names:
        fitting: list[Study] = []
        with contextlib.suppress(NewerRecord):  # what a newer version wrote teaches nothing here
            studies = record.studies(name) if name != job else ()
            fitting = [study for study in studies if _fits(study, method, fingerprint, space)]
        if not fitting and not isinstance(wanted, str):
            raise UserError(
                f"search.experience names the job {name!r}, which has no finished study with this backbone, "
                f"the method {method} and the same space. Known jobs: {', '.join(record.jobs()) or 'none'}."
            )
        earlier += fitting
    return sorted(earlier, key=lambda study: study.name)


def _fits(study: Study, method: str, fingerprint: str, space: Space) -> bool:
    return (
        study.method == method
        and study.winner is not None
        and study.facts.backbone_fingerprint == fingerprint
        and study.facts.content["space"].get(method) == space.to_dict()
    )
