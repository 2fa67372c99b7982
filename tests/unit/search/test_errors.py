"""What failed below an error: the storage and the database are told from all else."""

import errno
import sqlite3

import pytest
from sqlalchemy.exc import OperationalError

from search.errors import StorageError, first_line, storage_failure

FULL = OSError(errno.ENOSPC, "No space left on device")


def raised(error, *causes):
    """An error that was raised from others, as `raise … from` leaves it."""
    for outer, inner in zip((error, *causes), causes, strict=False):
        outer.__cause__ = inner
    return error


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        raised(RuntimeError("Tune failed"), ValueError("a text of an error"), FULL),
        OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full")),
        sqlite3.OperationalError("disk I/O error"),
    ],
)
def test_a_full_disk_or_a_lost_database_is_found_however_deep_it_lies(error):
    assert storage_failure(error) is not None


def test_the_cause_that_ray_keeps_is_looked_at_too():
    task = RuntimeError("a worker's error")
    task.cause = FULL
    assert storage_failure(task) is FULL


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), ConnectionRefusedError(errno.ECONNREFUSED, "refused"), TimeoutError(), KeyError(1)],
)
def test_nothing_else_is_taken_for_it(error):
    assert storage_failure(error) is None


def test_causes_that_go_round_in_a_circle_end():
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    assert storage_failure(one) is None


def test_an_error_is_told_in_one_line():
    assert first_line(ValueError("first\nsecond")) == "first"
    assert first_line(StorageError()) == "StorageError"
