"""The record of truth: one Optuna study per task and method. The only module that writes Optuna.

What was asked, every epoch's result and every outcome are here; what to try next, what to resume and who
won are functions of it. MLflow and Ray Tune's folder can be lost without loss.
"""

import functools
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipelines.errors import TrialDiverged
from pipelines.results import EpochResult
from search.database import one_transaction, open_database, read_number, write_values
from search.errors import NewerRecord
from search.record import FORMAT, Driver, Leaders, Outcome, StudyFacts, Trial, Winner
from search.storage import Storage
from search.trials import (
    CONFIRMS,
    EPOCH,
    LENGTH,
    NODE,
    OUTCOMES,
    PROMOTED,
    REASON,
    REFITS,
    RETRIES,
    RUNGS,
    SEED,
    TRAINED_PARAMETERS,
    trial_of,
)

# User attributes of a study, beside the fields of `StudyFacts`.
_FORMAT, _MADE, _POSITION = "format", "job", "position"
_WINNER, _FAILURE, _STOPPED, _EXHAUSTED = "winner", "failure", "stopped", "exhausted"
_DRIVER, _SEARCHED_SECONDS = "driver", "searched_seconds"
_TRACKING_KEY, _MLFLOW_RUN, _TRACKED = "tracking_key", "mlflow_run_id", "tracked"
_AGAIN, _LEADERS = "again", "leaders"


class Study:
    """One task x method of a job, named job/task/method."""

    def __init__(self, storage: RDBStorage, name: str) -> None:
        self.name = name
        self.job, self.task, self.method = name.split("/")
        self._storage = storage
        self._study = optuna.load_study(study_name=name, storage=storage)
        self._held: list[Trial] | None = None
        self._frozen: list[FrozenTrial] = []  # the same as Optuna has them
        version = self._attributes.get(_FORMAT, FORMAT)
        if version > FORMAT:
            raise NewerRecord(
                f"the record of {name} has format {version}, and this adaptune reads up to {FORMAT}. A newer "
                "version wrote it: update adaptune here too."
            )

    @property
    def is_made(self) -> bool:
        """Whether it was made completely; one that a killed driver left half made is made anew."""
        return _MADE in self._attributes

    @property
    def position(self) -> int:
        """Where it stands in the job's order, from 0."""
        return int(self._attributes.get(_POSITION, 0))

    @functools.cached_property
    def facts(self) -> StudyFacts:
        """What it is about. Of a study that is made."""
        return StudyFacts.from_dict(self._attributes)

    @property
    def winner(self) -> Winner | None:
        """What the search came to; None before its end, or where no trial ended well."""
        raw = self._attributes.get(_WINNER)
        return None if raw is None else Winner.from_dict(raw)

    def finish(self, winner: Winner) -> None:
        """End the study with a winner."""
        self._set(_WINNER, winner.to_dict())

    @property
    def leaders(self) -> Leaders | None:
        """The configurations that could not be told apart when the search ended; None: nobody has looked."""
        raw = self._attributes.get(_LEADERS)
        return None if raw is None else Leaders.from_dict(raw)

    def note_leaders(self, leaders: Leaders) -> None:
        """Write which configurations could not be told apart."""
        self._set(_LEADERS, asdict(leaders))

    @property
    def failure(self) -> str | None:
        """Why it has no winner and will have none."""
        return self._text(_FAILURE)

    def fail(self, reason: str) -> None:
        """End the study without a winner."""
        self._set(_FAILURE, reason)

    @property
    def is_finished(self) -> bool:
        """Whether it has its winner, or is known to have none."""
        return any(self._attributes.get(key) is not None for key in (_WINNER, _FAILURE))

    @property
    def again(self) -> tuple[int, ...]:
        """The failed trials whose configurations are to be tried again, each once."""
        return tuple(self._attributes.get(_AGAIN, ()))

    @property
    def retryable(self) -> tuple[int, ...]:
        """The failed trials that may come out otherwise when they are tried again: those that diverged would
        once more. Confirmations and what was asked for before are left out.
        """
        trials = self.trials()
        known = {*self.again, *(trial.retries for trial in trials)}
        failed = [trial for trial in trials if trial.state == "failed" and trial.confirms is None]
        return tuple(
            trial.number
            for trial in failed
            if trial.number not in known and not (trial.reason or "").startswith(TrialDiverged.__name__)
        )

    def reopen(self) -> bool:
        """Ask for the failed trials to be tried again that are `retryable`, and open the study once more;
        returns whether there are any. The failed ones stay in the record as they are.
        """
        left = self.retryable
        if not left:
            return False
        self._set(_AGAIN, [*self.again, *left])  # first: a driver that dies here leaves nothing half said
        for key in (_WINNER, _FAILURE, _STOPPED, _TRACKED, _LEADERS):
            if self._attributes.get(key) is not None:
                self._set(key, None)
        return True

    @property
    def stopped(self) -> str | None:
        """Why its search ends before its trials are used up; None where it does not."""
        return self._text(_STOPPED)

    def stop(self, reason: str) -> None:
        """Say that the search ends before its trials are used up."""
        self._set(_STOPPED, reason)

    @property
    def exhausted(self) -> bool:
        """Whether every configuration of its space has been tried."""
        return bool(self._attributes.get(_EXHAUSTED))

    def exhaust(self) -> None:
        """Say that every configuration has been tried."""
        self._set(_EXHAUSTED, True)

    @property
    def driver(self) -> Driver | None:
        """The last sign of life of the job's driver; of a job's first study, as is what follows."""
        raw = self._attributes.get(_DRIVER)
        return None if raw is None else Driver.from_dict(raw)

    def note_driver(self, driver: Driver | None) -> None:
        """Write a sign of life; None: the job has no driver any more."""
        self._set(_DRIVER, None if driver is None else asdict(driver))

    @property
    def searched_seconds(self) -> float:
        """How long the job has been searched, over all its drivers."""
        return float(self._attributes.get(_SEARCHED_SECONDS, 0.0))

    def note_searched_seconds(self, seconds: float) -> None:
        """Write how long the job has been searched; kept to a tenth."""
        self._set(_SEARCHED_SECONDS, round(seconds, 1))

    @property
    def tracked(self) -> bool:
        """Whether MLflow has all of the finished job."""
        return bool(self._attributes.get(_TRACKED))

    def note_tracked(self) -> None:
        """Say that MLflow has all of the job."""
        self._set(_TRACKED, True)

    @property
    def tracking_key(self) -> str:
        """What its runs in MLflow are found by, and no other search's; made when it is first asked for."""
        key = self._text(_TRACKING_KEY)
        if key is None:
            key = uuid.uuid4().hex
            self._set(_TRACKING_KEY, key)
        return key

    @property
    def mlflow_run_id(self) -> str | None:
        """The winner's run in MLflow; None before MLflow has it."""
        return self._text(_MLFLOW_RUN)

    def note_mlflow_run(self, run_id: str) -> None:
        """Write the winner's run in MLflow."""
        if self.mlflow_run_id != run_id:
            self._set(_MLFLOW_RUN, run_id)

    @property
    def _attributes(self) -> dict[str, Any]:
        return self._study.user_attrs

    def _text(self, key: str) -> str | None:
        value = self._attributes.get(key)
        return None if value is None else str(value)

    def _set(self, key: str, value: object) -> None:
        self._study.set_user_attr(key, value)

    def trials(self) -> tuple[Trial, ...]:
        """All trials, in the order in which they were started."""
        if self._held is not None:
            return tuple(self._held)
        return tuple(self._ours(trial) for trial in self._study.get_trials(deepcopy=False))

    def trial(self, number: int) -> Trial:
        """One trial."""
        return self._held[number] if self._held is not None else self._ours(self._trial(number))

    def hold(self) -> None:
        """Keep the trials in memory from now on: for the driver, who alone writes them.

        Optuna reads a trial with its epochs by six queries, and all unfinished ones anew each time.
        """
        self._frozen = self._storage.get_all_trials(self._study._study_id, deepcopy=False)
        self._held = [self._ours(trial) for trial in self._frozen]

    def start_trial(
        self,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        *,
        seed: int,
        rungs: Sequence[int] = (),
        confirms: int | None = None,
        retries: int | None = None,
        refits: int | None = None,
        length: int | None = None,
    ) -> int:
        """Write a new RUNNING trial; returns its number.

        Args:
            distributions: of the whole space; those of the parameters that the trial has are kept.
            rungs: the epochs after which it waits for its promotion.
            confirms, retries, refits, length: as `Trial` has them.
        """
        attributes: dict[str, Any] = {SEED: seed}
        if rungs:
            attributes[RUNGS] = list(rungs)
        more = {CONFIRMS: confirms, RETRIES: retries, REFITS: refits, LENGTH: length}
        attributes |= {key: value for key, value in more.items() if value is not None}
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions={name: values for name, values in distributions.items() if name in params},
            user_attrs=attributes,
        )
        template._trial_id = self._storage.create_new_trial(self._study._study_id, template_trial=template)
        template.number = read_number(self._storage, template._trial_id)
        if self._held is not None:
            self._frozen.append(template)
            self._held.append(self._ours(template))
        return template.number

    def promote_trial(self, number: int, rung: int) -> None:
        """Let a waiting trial past its rung; written before it runs on."""
        self._write(number, {PROMOTED: rung})

    def record_epochs(self, number: int, epochs: Sequence[EpochResult]) -> bool:
        """Write those of a trial's epochs that the study does not have; returns whether there were any."""
        known = {key for key in self._trial(number).user_attrs if key.startswith(EPOCH)}
        new = [epoch for epoch in epochs if f"{EPOCH}{epoch.epoch}" not in known]
        attributes = {f"{EPOCH}{epoch.epoch}": epoch.to_dict() for epoch in new}
        return self._write(number, attributes, scores={epoch.epoch: epoch.score for epoch in new})

    def note_trial(self, number: int, *, node: str | None, trained_parameters: int | None) -> None:
        """Write what a worker told of a running trial; None is no news, and what is known stays unwritten."""
        known = self._trial(number).user_attrs
        told = {NODE: node, TRAINED_PARAMETERS: trained_parameters}
        new = {key: value for key, value in told.items() if value not in (None, known.get(key))}
        self._write(number, new)

    def finish_trial(self, number: int, state: Outcome, *, reason: str | None = None) -> None:
        """End a trial. A complete one has its best epoch's score; a finished one stays as it is."""
        known = self._trial(number).user_attrs.get(REASON)
        self._write(number, {} if known == reason else {REASON: reason}, outcome=state)

    def _write(
        self,
        number: int,
        attributes: Mapping[str, Any],
        *,
        scores: Mapping[int, float] | None = None,
        outcome: Outcome | None = None,
    ) -> bool:
        """Write to a trial that runs, all of it or nothing; returns whether there was anything to write.

        Args:
            scores: by epoch.
            outcome: with which it ends.
        """
        trial, scores = self._trial(number), scores or {}
        if trial.state.is_finished() or not (attributes or outcome):
            return False
        best = [max(trial.intermediate_values.values())] if outcome == "complete" else None
        try:
            with one_transaction(self._storage) as connection:
                runs = write_values(connection, trial._trial_id, attributes, scores)
                if runs and outcome is not None:
                    self._storage.set_trial_state_values(trial._trial_id, OUTCOMES[outcome], best)
        except UpdateFinishedTrialError:
            runs = False
        if not runs:  # ended by a driver that has taken the job over: it stays as it is
            self._read_again(number)
            return False
        if outcome is not None:
            self._read_again(number)
        elif self._held is not None:
            trial.intermediate_values.update(scores)
            trial.user_attrs.update(attributes)
            self._held[number] = self._ours(trial)
        return True

    def _read_again(self, number: int) -> None:
        if self._held is not None:
            self._frozen[number] = self._storage.get_trial(self._frozen[number]._trial_id)
            self._held[number] = self._ours(self._frozen[number])

    def _ours(self, trial: FrozenTrial) -> Trial:
        return trial_of(trial, trial.user_attrs, self.method)

    def _trial(self, number: int) -> FrozenTrial:
        held = self._held is not None
        return self._frozen[number] if held else self._study.get_trials(deepcopy=False)[number]


class Record:
    """All studies of one database."""

    def __init__(self, storage: Storage) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage = open_database(storage)

    def jobs(self) -> tuple[str, ...]:
        """The names of all jobs, sorted."""
        names = optuna.get_all_study_names(storage=self._storage)
        return tuple(sorted({name.split("/")[0] for name in names if name.count("/") == 2}))

    def studies(self, job: str) -> tuple[Study, ...]:
        """The studies of a job, in the job's own order; none if there is no such job."""
        names = optuna.get_all_study_names(storage=self._storage)
        studies = [Study(self._storage, name) for name in names if name.split("/")[0] == job]
        return tuple(sorted(studies, key=lambda study: study.position))

    def create_study(self, name: str, facts: StudyFacts) -> Study:
        """Create a study, or complete one whose creation was cut short."""
        optuna.create_study(study_name=name, storage=self._storage, direction="maximize", load_if_exists=True)
        study = Study(self._storage, name)
        for key, value in {_FORMAT: FORMAT, **facts.to_dict()}.items():
            study._set(key, value)
        return study

    def close(self) -> None:
        """Give the database connections back."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
