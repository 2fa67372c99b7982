"""adaptune's service: from a job file to the best adapter of each task.

from search import SearchJob, run
results = run(SearchJob.load("job.yaml"))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.cluster.jobs import submit
    from search.errors import Interrupted, JobError, Problem, SearchError, UserError
    from search.job.job import SearchJob
    from search.results import export_bundles as export
    from search.results import read_results as results
    from search.runner import run
    from search.storage import Storage

__all__ = [
    "Interrupted",
    "JobError",
    "Problem",
    "SearchError",
    "SearchJob",
    "Storage",
    "UserError",
    "export",
    "results",
    "run",
    "submit",
]

_HOMES = {
    "Interrupted": ("search.errors", "Interrupted"),
    "JobError": ("search.errors", "JobError"),
    "Problem": ("search.errors", "Problem"),
    "SearchError": ("search.errors", "SearchError"),
    "SearchJob": ("search.job.job", "SearchJob"),
    "Storage": ("search.storage", "Storage"),
    "UserError": ("search.errors", "UserError"),
    "export": ("search.results", "export_bundles"),
    "results": ("search.results", "read_results"),
    "run": ("search.runner", "run"),
    "submit": ("search.cluster.jobs", "submit"),
}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: Ray and torch take seconds, `adaptune --help` does without."""
    if name not in _HOMES:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    from search.local.private import ensure_home

    ensure_home()  # before Ray and MLflow are imported
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
