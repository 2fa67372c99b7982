"""The record of truth: one Optuna study per task and method. The only module that writes Optuna.

What was asked, every epoch's result and every outcome are here; what to try next, what to resume and who
won are functions of it. MLflow and Ray Tune's folder can be lost without loss.
"""

import contextlib
import errno
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import IntegrityError, ProgrammingError

from pipelines.method import epochs_of
from search.errors import UserError
from search.storage import Storage

SQLITE_BUSY_SECONDS = 60
TABLE_ATTEMPTS = 4  # to open a database whose tables another is just making
_EPOCH = "epoch:"  # user attribute of a trial: epoch:N -> EpochResult as a dict
_FACT = "fact:"

State = Literal["running", "paused", "complete", "pruned", "failed"]
Outcome = Literal["running", "complete", "pruned", "failed"]  # as Optuna has it
_STATES: dict[TrialState, Outcome] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the study knows it.

    Attributes:
        state: paused where it waits at a rung: it has come so far and was not let past it.
        epochs: EpochResult dicts (pipelines.training), first epoch first.
        reason: why it ended, where it did not simply train to its end.
        facts: what the worker told of it: trained_parameters, node.
        rungs: the epochs after which it has to wait.
        promoted: the last rung that it was let past; 0 for none.
        confirms: the trial whose configuration it repeats with another seed, for a confirmation.
        method: the study's: it decides how many epochs there are where no parameter does.
    """

    number: int
    state: State
    params: Mapping[str, Any]
    epochs: tuple[Mapping[str, Any], ...]
    reason: str | None
    seed: int
    facts: Mapping[str, Any]
    started: datetime | None
    ended: datetime | None
    rungs: tuple[int, ...] = ()
    promoted: int = 0
    confirms: int | None = None
    method: str = "adapter"

    @property
    def schedule(self) -> int:
        """The epochs that it is to train."""
        return epochs_of(self.params, method=self.method)

    @property
    def rung(self) -> int | None:
        """The rung that it waits at, or would wait at if it ran; None where it is free to go on."""
        return waiting_rung(self.rungs, self.promoted, len(self.epochs))

    @property
    def score(self) -> float | None:
        """The best epoch's validation score so far; None for a failed trial, whatever its epochs gave."""
        if self.state == "failed":
            return None
        return max((epoch["score"] for epoch in self.epochs), default=None)

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with that score."""
        if self.score is None:
            return None
        return int(max(self.epochs, key=lambda epoch: (epoch["score"], -epoch["epoch"]))["epoch"])

    @property
    def seconds(self) -> float:
        """Training time of all its epochs."""
        return float(sum(epoch["seconds"] for epoch in self.epochs))


def waiting_rung(rungs: Sequence[int], promoted: int, epochs: int) -> int | None:
    """The last rung that so many epochs have reached, where a trial was not let past it; else None.

    A driver that is killed before it has read a rung's result may find one epoch more in the checkpoint: the
    trial still waits at that rung.
    """
    reached = max((rung for rung in rungs if rung <= epochs), default=0)
    return reached if reached > promoted else None


class Study:
    """One task x method of a job, named job/task/method."""

    def __init__(self, storage: BaseStorage, name: str) -> None:
        self.name = name
        self.job, self.task, self.method = name.split("/")
        self._storage = storage
        self._study = optuna.load_study(study_name=name, storage=storage)
        self._ids: list[int] = []  # Optuna's, by number
        self._held: list[TrialRecord] | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        """What is noted of the study as a whole: job, fingerprints, winner …"""
        return self._study.user_attrs

    def note(self, key: str, value: object) -> None:
        """Set one of `attributes` (JSON values only)."""
        self._study.set_user_attr(key, value)

    def trials(self) -> tuple[TrialRecord, ...]:
        """All trials, in the order in which they were started."""
        if self._held is not None:
            return tuple(self._held)
        return tuple(_record(trial, self.method) for trial in self._study.get_trials(deepcopy=False))

    def trial(self, number: int) -> TrialRecord:
        """One trial."""
        return self._held[number] if self._held is not None else _record(self._trial(number), self.method)

    def hold(self) -> None:
        """Keep the trials in memory from now on: for the driver, who alone writes them.

        Optuna reads all unfinished trials anew each time, and of those that wait there may be hundreds.
        """
        trials = self._study.get_trials(deepcopy=False)
        self._ids = [trial._trial_id for trial in trials]
        self._held = [_record(trial, self.method) for trial in trials]

    def start_trial(
        self,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        *,
        seed: int,
        rungs: Sequence[int] = (),
        confirms: int | None = None,
    ) -> int:
        """Write a new RUNNING trial; returns its number.

        Args:
            distributions: of the whole space; those of the parameters that the trial has are kept.
            rungs: the epochs after which it waits for its promotion.
            confirms: the trial that it repeats with another seed.
        """
        attributes: dict[str, Any] = {"seed": seed}
        if rungs:
            attributes["rungs"] = list(rungs)
        if confirms is not None:
            attributes["confirms"] = confirms
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions={name: one for name, one in distributions.items() if name in params},
            user_attrs=attributes,
        )
        trial_id = self._storage.create_new_trial(self._study._study_id, template_trial=template)
        trial = self._storage.get_trial(trial_id)
        if self._held is not None:
            self._ids.append(trial_id)
            self._held.append(_record(trial, self.method))
        return trial.number

    def promote_trial(self, number: int, rung: int) -> None:
        """Let a waiting trial past its rung; written before it runs on."""
        trial = self._trial(number)
        if not trial.state.is_finished():
            self._storage.set_trial_user_attr(trial._trial_id, "promoted", rung)
            self._refresh(number)

    def record_epochs(self, number: int, epochs: Sequence[Mapping[str, Any]]) -> bool:
        """Write those of a trial's epochs that the study does not have; returns whether there were any."""
        trial = self._trial(number)
        known = {key for key in trial.user_attrs if key.startswith(_EPOCH)}
        new = [epoch for epoch in epochs if f"{_EPOCH}{epoch['epoch']}" not in known]
        if trial.state.is_finished():
            return False
        for epoch in new:
            # The score first: an epoch counts as known once its attribute is there.
            self._storage.set_trial_intermediate_value(trial._trial_id, epoch["epoch"], epoch["score"])
            self._storage.set_trial_user_attr(trial._trial_id, f"{_EPOCH}{epoch['epoch']}", dict(epoch))
        if new:
            self._refresh(number)
        return bool(new)

    def note_trial(self, number: int, facts: Mapping[str, Any]) -> None:
        """Add facts to a running trial; what is known already is not written again."""
        trial = self._trial(number)
        if trial.state.is_finished():
            return
        new = {key: value for key, value in facts.items() if trial.user_attrs.get(f"{_FACT}{key}") != value}
        for key, value in new.items():
            self._storage.set_trial_user_attr(trial._trial_id, f"{_FACT}{key}", value)
        if new:
            self._refresh(number)

    def finish_trial(self, number: int, state: Outcome, *, reason: str | None = None) -> None:
        """End a trial. A complete one has its best epoch's score; a finished one stays as it is."""
        trial = self._trial(number)
        if trial.state.is_finished():
            return
        if trial.user_attrs.get("reason") != reason:  # a killed driver may have left another one
            self._storage.set_trial_user_attr(trial._trial_id, "reason", reason)
        if state == "complete":
            self._storage.set_trial_state_values(
                trial._trial_id, TrialState.COMPLETE, [max(trial.intermediate_values.values())]
            )
        else:
            ended = TrialState.PRUNED if state == "pruned" else TrialState.FAIL
            self._storage.set_trial_state_values(trial._trial_id, ended)
        self._refresh(number)

    def _refresh(self, number: int) -> None:
        if self._held is not None:
            self._held[number] = _record(self._trial(number), self.method)

    def _trial(self, number: int) -> FrozenTrial:
        if self._held is not None:
            return self._storage.get_trial(self._ids[number])
        return self._study.get_trials(deepcopy=False)[number]


class Record:
    """All studies of one database."""

    def __init__(self, storage: Storage) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage = _open(storage)

    def jobs(self) -> tuple[str, ...]:
        """The names of all jobs, sorted."""
        names = optuna.get_all_study_names(storage=self._storage)
        return tuple(sorted({name.split("/")[0] for name in names if name.count("/") == 2}))

    def studies(self, job: str) -> tuple[Study, ...]:
        """The studies of a job, in the job's own order; none if there is no such job."""
        names = optuna.get_all_study_names(storage=self._storage)
        studies = [Study(self._storage, name) for name in names if name.split("/")[0] == job]
        return tuple(sorted(studies, key=lambda study: study.attributes.get("position", 0)))

    def create_study(self, name: str, attributes: Mapping[str, Any]) -> Study:
        """Create a study, or complete one whose creation was cut short."""
        optuna.create_study(study_name=name, storage=self._storage, direction="maximize", load_if_exists=True)
        study = Study(self._storage, name)
        for key, value in attributes.items():
            study.note(key, value)
        return study

    def close(self) -> None:
        """Give the database connections back."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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


def _open(storage: Storage) -> RDBStorage:
    url = storage.database_url
    arguments: dict[str, Any] = {"pool_pre_ping": True}  # a connection that was cut is made anew
    with claim_lock(storage):
        if url.startswith("sqlite"):
            arguments = {"connect_args": {"timeout": SQLITE_BUSY_SECONDS}}
            _refuse_damaged(Path(url.removeprefix("sqlite:///")))
        for _ in range(1, TABLE_ATTEMPTS):
            try:
                return RDBStorage(url, engine_kwargs=arguments)
            except (IntegrityError, ProgrammingError):
                time.sleep(1)  # no lock of ours spans machines: two that find no tables both make them
        return RDBStorage(url, engine_kwargs=arguments)


def _refuse_damaged(database: Path) -> None:
    """Look through a study file before anything is read from it; a large one takes some tenths of a second.

    Raises:
        UserError: it was cut short or changed.
    """
    if not database.is_file():
        return
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=SQLITE_BUSY_SECONDS)) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        return  # it cannot be opened or read: whoever uses it says why
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise UserError(
            f"{database} is damaged ({' '.join(found.split())}). Put a backup of it in its place, or repair "
            f"it with `sqlite3 {database} .recover`. Without either, move it away: its jobs then start anew."
        )


def _record(trial: FrozenTrial, method: str) -> TrialRecord:
    attributes = trial.user_attrs
    state: State = _STATES[trial.state]
    epochs = [attributes[key] for key in attributes if key.startswith(_EPOCH)]
    rungs, promoted = tuple(attributes.get("rungs", ())), int(attributes.get("promoted", 0))
    if state == "running" and waiting_rung(rungs, promoted, len(epochs)) is not None:
        state = "paused"
    return TrialRecord(
        number=trial.number,
        state=state,
        params=trial.params,
        epochs=tuple(sorted(epochs, key=lambda epoch: int(epoch["epoch"]))),
        # A driver killed between the reason and the end leaves a reason to a trial that then goes on.
        reason=attributes.get("reason") if state in ("complete", "pruned", "failed") else None,
        seed=int(attributes.get("seed", 0)),
        facts={key.removeprefix(_FACT): value for key, value in attributes.items() if key.startswith(_FACT)},
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        rungs=rungs,
        promoted=promoted,
        confirms=attributes.get("confirms"),
        method=method,
    )
