"""The database that the studies lie in: opened whole, its tables made by one at a time."""

import contextlib
import errno
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)

from search.errors import UserError, first_line
from search.secrets import hide_secrets
from search.storage import STUDY_DATABASE, Storage

SQLITE_BUSY_SECONDS = 60
TABLE_ATTEMPTS = 4  # to open a database whose tables another is just making

# Optuna's tables, in SQL that SQLite and PostgreSQL both have.
_NUMBER = text("SELECT number FROM trials WHERE trial_id = :trial")
_STATE = "SELECT state FROM trials WHERE trial_id = :trial"
_STATES = {"sqlite": text(_STATE), "postgresql": text(f"{_STATE} FOR UPDATE")}  # by dialect
_ATTRIBUTE = text(
    "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (:trial, :key, :value)"
    " ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json"
)
_SCORE = text(
    "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)"
    " VALUES (:trial, :step, :value, 'FINITE') ON CONFLICT (trial_id, step)"
    " DO UPDATE SET intermediate_value = excluded.intermediate_value, intermediate_value_type = 'FINITE'"
)


@contextlib.contextmanager
def claim_lock(storage: Storage) -> Iterator[None]:
    """Hold the storage's lock for a moment: for making schemas and for becoming a job's driver."""
    if not storage.is_folder:
        yield
        return
    Path(storage.root).mkdir(parents=True, exist_ok=True)
    lock = FileLock(storage.path(".lock"), timeout=SQLITE_BUSY_SECONDS)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        yield  # whoever may only read makes and claims nothing
        return
    try:
        yield
    finally:
        lock.release()


def open_database(storage: Storage) -> RDBStorage:
    """The database of a storage's studies, made if it is not there.

    Raises:
        UserError: it is damaged or may not be read; or it is a server's, and cannot be reached.
    """
    url = storage.database_url
    arguments: dict[str, Any] = {"pool_pre_ping": True}  # a connection that was cut is made anew
    with claim_lock(storage):
        if url.startswith("sqlite"):
            arguments = {"connect_args": {"timeout": SQLITE_BUSY_SECONDS}}
            file = Path(make_url(url).database or "")
            if storage.database is None and not storage.has(STUDY_DATABASE):
                file.touch()  # as the umask has it: SQLite's own mode is never writable for a group
            _refuse_damaged(file)
        for _ in range(1, TABLE_ATTEMPTS):
            try:
                return RDBStorage(url, engine_kwargs=arguments)
            except (IntegrityError, ProgrammingError):
                time.sleep(1)  # no lock of ours spans machines: two that find no tables both make them
            except (OperationalError, ArgumentError, NoSuchModuleError, ImportError) as error:
                if storage.database is None:
                    raise
                raise UserError(
                    f"database {hide_secrets(url)} cannot be opened: {hide_secrets(first_line(error), url)}. "
                    "Is it up, its driver installed? `database:` in the job file and --database name it."
                ) from error
        return RDBStorage(url, engine_kwargs=arguments)


@contextlib.contextmanager
def one_transaction(storage: RDBStorage) -> Iterator[Connection]:
    """All that this thread writes by Optuna meanwhile is written together at the end, or not at all.

    Optuna ends a transaction with each value; in here its session has one of ours to write into: the
    connection that is given.
    """
    with storage.engine.begin() as connection:
        storage.scoped_session.remove()
        storage.scoped_session(bind=connection, join_transaction_mode="rollback_only")
        try:
            yield connection
        finally:
            storage.scoped_session.remove()


def read_number(storage: RDBStorage, trial_id: int) -> int:
    """A trial's number in its study; Optuna reads the whole trial for it."""
    with storage.engine.connect() as connection:
        return int(connection.execute(_NUMBER, {"trial": trial_id}).scalar_one())


def write_values(
    storage: RDBStorage,
    connection: Connection,
    trial_id: int,
    attributes: Mapping[str, Any],
    scores: Mapping[int, float],
) -> bool:
    """Write a running trial's user attributes, and scores (finite) by epoch, as Optuna would; returns whether
    it runs: of one that has ended nothing is written.

    Optuna reads the trial anew for each value, which takes several times as long, and a driver of packs
    writes a hundred times a second. Databases whose SQL differs are left to Optuna.

    Args:
        connection: of `one_transaction`.
    """
    dialect = connection.dialect.name
    state = _STATES.get(dialect)
    if state is None:
        return _write_by_optuna(storage, trial_id, attributes, scores)
    if connection.execute(state, {"trial": trial_id}).scalar_one() != "RUNNING":
        return False
    if scores:
        steps = [{"trial": trial_id, "step": epoch, "value": score} for epoch, score in scores.items()]
        connection.execute(_SCORE, steps)
    if attributes:
        rows = [
            {"trial": trial_id, "key": key, "value": json.dumps(value)} for key, value in attributes.items()
        ]
        connection.execute(_ATTRIBUTE, rows)
    return True


def _write_by_optuna(
    storage: RDBStorage, trial_id: int, attributes: Mapping[str, Any], scores: Mapping[int, float]
) -> bool:
    try:
        for epoch, score in scores.items():
            storage.set_trial_intermediate_value(trial_id, epoch, score)
        for key, value in attributes.items():
            storage.set_trial_user_attr(trial_id, key, value)
    except UpdateFinishedTrialError:
        return False
    return True


def describe_loss(storage: Storage) -> str | None:
    """What has become of a study file under those that use it, and what to do; None where nothing is seen."""
    url = storage.database_url
    if not url.startswith("sqlite"):
        return None
    file = Path(make_url(url).database or "")
    if not file.is_file():
        return (
            f"the study file {file} is gone: it was moved or deleted while it was in use. Put it back, or a "
            "backup of it; without either, the job starts anew"
        )
    if not os.access(file, os.W_OK):
        return f"the study file {file} cannot be written any more. Give its permissions back"
    if _damage(file) is not None:
        return (
            f"the study file {file} was changed or cut short while it was in use. Put a backup of it in its "
            f"place, or repair it with `sqlite3 {file} .recover`"
        )
    return None


def _refuse_damaged(database: Path) -> None:
    """Look through a study file before anything is read from it; a large one takes some tenths of a second.

    Raises:
        UserError: it was cut short or changed.
    """
    damage = _damage(database) if database.is_file() else None
    if damage is not None:
        raise UserError(
            f"{database} is damaged ({damage}). Put a backup of it in its place, or repair "
            f"it with `sqlite3 {database} .recover`. Without either, move it away: its jobs then start anew."
        )


def _damage(database: Path) -> str | None:
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=SQLITE_BUSY_SECONDS)) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        return None  # it cannot be opened or read: whoever uses it says why
    except sqlite3.DatabaseError as error:
        answer = str(error)
    return None if answer == "ok" else " ".join(answer.split())
