"""Trials' checkpoints in the storage, by their names."""

import logging
from typing import TYPE_CHECKING

from pipelines.errors import CheckpointError
from search.errors import StorageError, first_line
from search.storage import Storage, checkpoint_key
from search.workers.assignment import Assignment
from search.workers.context import WorkerContext

if TYPE_CHECKING:
    from pipelines.epochs import TrainingState

log = logging.getLogger(__name__)


def checkpoint_of(context: WorkerContext, assignment: Assignment) -> str:
    """The key of a trial's checkpoint."""
    return checkpoint_key(context.job, assignment.task, assignment.method, assignment.number)


def read_state(context: WorkerContext, assignment: Assignment) -> "TrainingState | None":
    """Where a trial's checkpoint left it; None where it has none, or one that is damaged.

    Raises:
        StorageError: the storage cannot be read.
    """
    from pipelines.checkpoint import load_state

    key = checkpoint_of(context, assignment)
    try:
        saved = context.storage.read(key)
    except OSError as error:
        raise StorageError(f"storage {context.storage.root} cannot be read ({first_line(error)})") from error
    try:
        return None if saved is None else load_state(saved)
    except CheckpointError as error:
        log.warning("%s: %s; the trial is trained again", context.storage.uri(key), error)
        return None


def write_state(context: WorkerContext, assignment: Assignment, state: "TrainingState") -> None:
    """Write a trial's checkpoint.

    Raises:
        StorageError: the storage cannot be written.
    """
    from pipelines.checkpoint import dump_state

    try:
        context.storage.write(checkpoint_of(context, assignment), dump_state(state))
    except OSError as error:
        raise StorageError(unwritable(context.storage, error)) from error


def unwritable(storage: Storage, error: BaseException) -> str:
    """What to say of a storage that cannot be written."""
    return f"storage {storage.root} cannot be written ({first_line(error)})"
