"""What a job learns from those that were searched before: the studies that fit it, found in the record."""

import contextlib
from collections.abc import Mapping, Sequence

from pipelines.method import find_method
from search.decisions.experience import portfolio
from search.errors import NewerRecord, UserError
from search.job.job import SearchJob
from search.record import Experience
from search.study import Record, Study
from spaces import Space


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
