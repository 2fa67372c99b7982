"""A search's records on their way to MLflow, and at its end each study's page."""

import contextlib
import logging
from collections.abc import Iterator, Sequence

from search.commands import command, storage_options
from search.errors import StorageError, TakenOver
from search.job.job import SearchJob
from search.progress import Progress
from search.report.job.page import job_files
from search.results import is_finished
from search.secrets import hide_secrets
from search.storage import Storage
from search.study import Study
from search.tracking.report import log_pages
from search.tracking.tracker import CLOSE_SECONDS, Tracker

HEAD_START_SECONDS = 6  # of the workers before MLflow, whose import and new database take cores and seconds
LOST_CLOSE_SECONDS = 5  # how long a search waits for MLflow that ends for want of its storage

log = logging.getLogger(__name__)


@contextlib.contextmanager
def tracking(
    job: SearchJob,
    storage: Storage,
    studies: Sequence[Study],
    progress: Progress,
    *,
    catching_up: bool = False,
) -> Iterator[Tracker]:
    """MLflow for the length of a search and a minute more; to catch up, as long as it advances."""
    tracker = Tracker(studies, storage, uri=job.tracking.uri, experiment=job.tracking.experiment or job.name)
    patience: float = CLOSE_SECONDS
    tracker.start(after=0 if catching_up else HEAD_START_SECONDS)
    try:
        yield tracker
    except (StorageError, TakenOver):
        patience = LOST_CLOSE_SECONDS
        raise
    finally:
        for study in studies:
            tracker.notify(study)
        if not tracker.close(patience, while_it_advances=catching_up):
            where = hide_secrets(job.tracking.uri or storage.tracking_uri)
            problem = hide_secrets(str(tracker.problem), job.tracking.uri)
            again = command("resume", job.name, *storage_options(storage))
            progress.warn(
                f"MLflow is behind ({problem}). Nothing is lost: `{again}` brings {where} up to date. "
                "If it is damaged, move it away first."
            )
    if is_finished(studies) and not tracker.behind:
        studies[0].note_tracked()
        _deliver_pages(job, storage, studies)


def _deliver_pages(job: SearchJob, storage: Storage, studies: Sequence[Study]) -> None:
    """The page of each study, and its figures, on the study's run. `adaptune report` makes it at any time, so
    that nothing is lost where this fails.
    """
    try:
        pages = {
            study.tracking_key: job_files([study], storage, figures=True)
            for study in studies
            if study.trials()
        }
        log_pages(pages, job.name, storage, uri=job.tracking.uri, experiment=job.tracking.experiment)
    except Exception:  # whatever MLflow, the network or a page throws: the job is finished
        log.debug("MLflow has no page of %s", job.name, exc_info=True)
