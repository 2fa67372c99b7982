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
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import TrialIntermediateValueModel as Value
from optuna.storages._rdb.models import TrialModel
from optuna.storages._rdb.models import TrialUserAttributeModel as Attribute
from optuna.trial import TrialState
from sqlalchemy import BindParameter, Connection, bindparam, delete, insert, select
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

_TRIAL: BindParameter[int] = bindparam("trial")
_KNOWN: BindParameter[Any] = bindparam("known", expanding=True)
_NUMBER = select(TrialModel.number).where(TrialModel.trial_id == _TRIAL)
_STATE = select(TrialModel.state).where(TrialModel.trial_id == _TRIAL).with_for_update()
# Of a trial's scores and user attributes: what is to be written anew goes first, which any database knows.
_SCORES = delete(Value).where(Value.trial_id == _TRIAL, Value.step.in_(_KNOWN)), insert(Value)
_ATTRIBUTES = (
    delete(Attribute).where(Attribute.trial_id == _TRIAL, Attribute.key.in_(_KNOWN)),
    insert(Attribute),
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
    connection: Connection, trial_id: int, attributes: Mapping[str, Any], scores: Mapping[int, float]
) -> bool:
    """Write a running trial's user attributes, and scores by epoch, as Optuna would; returns whether it runs:
    of one that has ended nothing is written.

    Optuna reads the trial anew for each value, which takes several times as long, and a driver of packs
    writes a hundred times a second.

    Args:
        connection: of `one_transaction`.
    """
    if connection.execute(_STATE, {"trial": trial_id}).scalar_one() is not TrialState.RUNNING:
        return False
    values = {epoch: Value.intermediate_value_to_stored_repr(score) for epoch, score in scores.items()}
    steps = [
        {"trial_id": trial_id, "step": epoch, "intermediate_value": value, "intermediate_value_type": kind}
        for epoch, (value, kind) in values.items()
    ]
    rows = [
        {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
        for key, value in attributes.items()
    ]
    for new, key, (forget, write) in ((steps, "step", _SCORES), (rows, "key", _ATTRIBUTES)):
        if new:
            connection.execute(forget, {"trial": trial_id, "known": [row[key] for row in new]})
            connection.execute(write, new)
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
