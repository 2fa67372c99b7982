"""MLflow, brought up to the study. Logging never blocks or kills a search.

The study holds every record, so what MLflow lacks needs no queue of its own: a thread compares and delivers.
While the server is away, records wait in the study; they are delivered when it is back, or at the next
`adaptune resume`. Every delivery can be repeated: runs are found by tag, and MLflow ignores a metric that
it has with the same step, value and time. A record that MLflow refuses does not hold up the others.
"""

import json
import logging
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.results import EpochResult
from search.decisions.confirmation import Spread
from search.decisions.selection import pareto_front
from search.errors import first_line
from search.record import Run, Trial
from search.storage import Storage
from search.study import Study
from search.tracking.client import find_experiment, open_client
from search.tracking.runs import (
    JOB_TAG,
    KEY_TAG,
    STORAGE_TAG,
    STUDY_TAG,
    TRIAL_TAG,
    find_runs,
    storage_name,
)
from search.tracking.shown import epoch_metrics, trial_tags, winner_metrics
from search.tracking.system import SystemMetrics
from search.verdict import winner_verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from search.workers.reports import HostState

BUNDLE_TAG = "adaptune.bundle"  # set once the bundle is there as a whole
RETRY_SECONDS = (1, 2, 5, 10, 30)
CLOSING_RETRY_SECONDS = 0.5
SHARE = 0.25  # of the time, for news of trials that run: Python runs one thread at a time
CLOSE_SECONDS = 60  # how long the end of a search waits for MLflow
_STATUS = {"running": "RUNNING", "paused": "SCHEDULED"}  # as MLflow has them; a run is made RUNNING
_PARENT = -1  # stands for a study's parent run among trial numbers
_SYSTEM = -2  # for what hosts told, which is shown there too

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Shown:
    """What MLflow has of a trial; an empty state for one of which it has nothing."""

    epochs: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    state: str = ""


class Tracker:
    """Delivers a job's records to MLflow from a thread of its own.

    Args:
        uri: the tracking server or database; None: mlflow.db in the storage.
        experiment: its name; one per job.
    """

    def __init__(
        self, studies: Sequence[Study], storage: Storage, *, uri: str | None, experiment: str
    ) -> None:
        self._studies = {study.name: study for study in studies}
        self._storage = storage
        self._uri = uri or storage.tracking_uri
        self._experiment = experiment
        self._due: dict[tuple[str, int], None] = {}  # in the order in which they came to be
        self._system = SystemMetrics()
        self._told: dict[str, list[tuple[float, Mapping[str, float]]]] = {}  # by study: when, and the means
        self._refused: dict[tuple[str, int], str] = {}  # what was tried in vain, and why
        self._changed = threading.Condition()
        self._closing = False
        self._given_up = False
        self._after = 0.0
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._keys: dict[str, str] = {}  # study -> what its runs' KEY_TAG begins with
        self._runs: dict[str, str] = {}  # KEY_TAG -> run id
        self._shown: dict[str, _Shown] = {}  # run id -> what this process has delivered
        self._thread = threading.Thread(target=self._deliver_all, name="mlflow", daemon=True)

    def start(self, *, after: float = 0) -> None:
        """Start delivering, first of all what MLflow may lack of earlier runs of the job.

        Args:
            after: seconds until the first delivery; the end of the search does not wait for them.
        """
        self._after = after
        for study in self._studies.values():
            self._keys[study.name] = study.tracking_key
            self.notify(study)
            for trial in study.trials():
                self.notify(study, trial.number)
        self._thread.start()

    def notify(self, study: Study, number: int = _PARENT) -> None:
        """Say that a trial's record, or the study as a whole, has changed. Returns at once."""
        with self._changed:
            self._due[study.name, number] = None
            self._changed.notify()

    def note_hosts(self, states: "Sequence[HostState]") -> None:
        """Take what hosts do, every few seconds: system metrics of the studies' runs. Returns at once."""
        means = self._system.add(states)
        if means:
            with self._changed:
                for study in self._studies:
                    self._told.setdefault(study, []).append((time.time(), means))
                    self._due[study, _SYSTEM] = None
                self._changed.notify()

    @property
    def problem(self) -> str | None:
        """Why something could not be delivered yet; None where all is well."""
        return next(iter(self._refused.copy().values()), None)

    @property
    def behind(self) -> bool:
        """Whether something is still to be delivered."""
        return bool(self._due) or self._thread.is_alive()

    def close(self, seconds: float = CLOSE_SECONDS, *, while_it_advances: bool = False) -> bool:
        """Deliver what is left, for at most so long (or so long without an advance); returns whether MLflow
        now has everything.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        left, deadline = len(self._due), time.monotonic() + seconds
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(timeout=min(1, seconds))
            if while_it_advances and len(self._due) < left:
                left, deadline = len(self._due), time.monotonic() + seconds
        with self._changed:
            self._given_up = True  # a thread that still waits for an answer ends after it
            self._changed.notify()
        return not self.behind

    def _deliver_all(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, timeout=self._after)
        failures = 0
        while item := self._next_due():
            started = time.thread_time()
            try:
                self._deliver(self._studies[item[0]], item[1])
            except Exception as error:  # whatever MLflow or the network throws: the search goes on
                log.debug("MLflow is behind", exc_info=True)
                self._client = None  # what did arrive is looked up anew
                with self._changed:
                    self._due[item] = None
                    self._refused[item] = _describe(error)
                    if self._closing:
                        self._changed.wait_for(lambda: self._given_up, timeout=CLOSING_RETRY_SECONDS)
                    else:
                        wait = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                        self._changed.wait_for(lambda: self._closing, timeout=wait)
                failures += 1
            else:
                failures = 0
                self._refused.pop(item, None)
                self._rest(item, time.thread_time() - started)

    def _rest(self, item: tuple[str, int], seconds: float) -> None:
        """Leave the search its time, after so many seconds for a trial that runs: meanwhile it may have more
        to tell. What has ended is told once, and is not to wait for the end of the search.
        """
        run = self._runs.get(f"{self._keys[item[0]]}/{item[1]}", "")
        if run in self._shown and self._shown[run].state == "running":
            with self._changed:
                self._changed.wait_for(lambda: self._closing, timeout=seconds * (1 / SHARE - 1))

    def _next_due(self) -> tuple[str, int] | None:
        """What to deliver next: parents first, refused ones last, else what has waited longest. Waits; None
        when it is time to end.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._due or self._closing)
            if self._given_up or not self._due:
                return None
            item = min(self._due, key=lambda due: (due in self._refused, due[1] != _PARENT))
            del self._due[item]
            return item

    def _deliver(self, study: Study, number: int) -> None:
        client = self._connect()
        parent = self._run_id(
            client,
            self._keys[study.name],
            name=f"{study.task}/{study.method}",
            tags={JOB_TAG: study.job, STUDY_TAG: study.name},
        )
        if number == _PARENT:
            self._deliver_summary(client, study, parent)
        elif number == _SYSTEM:
            self._deliver_system(client, study, parent)
        else:
            self._deliver_trial(client, study, study.trial(number), parent)

    def _deliver_system(self, client: "MlflowClient", study: Study, parent: str) -> None:
        """What hosts told; a step is a second since the study's first trial."""
        from mlflow.entities import Metric

        first = next((trial.started for trial in study.trials()[:1] if trial.started), None)
        told = self._told[study.name]
        count = len(told)  # more may come meanwhile
        metrics = [
            Metric(name, value, int(1000 * at), max(0, int(at - first.timestamp())) if first else 0)
            for at, means in told[:count]
            for name, value in means.items()
        ]
        client.log_batch(parent, metrics=metrics)
        del told[:count]

    def _deliver_trial(self, client: "MlflowClient", study: Study, trial: Trial, parent: str) -> None:
        from mlflow.entities import Param, RunTag
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        key = f"{self._keys[study.name]}/{trial.number}"
        is_new = key not in self._runs
        run = self._run_id(
            client,
            key,
            name=f"{study.task}/{study.method}/{trial.number}",
            tags={
                JOB_TAG: study.job,
                STUDY_TAG: study.name,
                TRIAL_TAG: f"{study.name}/{trial.number}",
                MLFLOW_PARENT_RUN_ID: parent,
            },
            started=trial.started,
        )
        shown, tags = self._shown.get(run, _Shown()), trial_tags(trial)
        metrics = [metric for epoch in trial.epochs[shown.epochs :] for metric in _metrics(epoch)]
        if trial.state in ("complete", "pruned") and trial.best is not None:
            # What the trial counts for; the UI sorts by a metric's last value, which may be worse.
            metrics.append(_best_metric(trial.best, study.facts.metric))
        client.log_batch(
            run,
            metrics=metrics,
            params=[Param(key, str(value)) for key, value in trial.params.items()] if not shown.state else [],
            tags=[RunTag(key, value) for key, value in tags.items() if shown.tags.get(key) != value],
        )
        if trial.state not in ("running", "paused"):
            status = "FAILED" if trial.state == "failed" else "FINISHED"
            client.set_terminated(run, status=status, end_time=_milliseconds(trial.ended))
        elif trial.state != shown.state:
            known = is_new or shown.state  # else an earlier process made it
            status = _STATUS[shown.state or "running"] if known else client.get_run(run).info.status
            if status != _STATUS[trial.state]:
                client.update_run(run, status=_STATUS[trial.state])
        self._shown[run] = _Shown(len(trial.epochs), tags, trial.state)

    def _deliver_summary(self, client: "MlflowClient", study: Study, parent: str) -> None:
        """The parent run: while searching no more than its existence; at the end summary and bundle."""
        from search.tables import front_table, study_figure, study_table

        experience = study.facts.experience
        if experience.portfolio:
            client.set_tag(parent, "experience", experience.shipped or ", ".join(experience.studies)[:5000])
            client.set_tag(parent, "experience_portfolio", json.dumps(experience.portfolio))
        if study.stopped:
            client.set_tag(parent, "stopped", study.stopped)
        winner, failure = study.winner, study.failure
        if winner is None and failure is None:
            return
        client.log_text(parent, study_table(study), "leaderboard.md")
        client.log_figure(parent, study_figure(study), "trials.png")
        if study.facts.seeks_front:
            front = pareto_front(study.trials())
            client.log_text(parent, front_table(study, front), "front.md")
            client.set_tag(parent, "front", ", ".join(f"trial {trial.number}" for trial in front))
        if winner is None:
            client.set_tag(parent, "reason", failure)
            client.set_terminated(parent, status="FAILED")
            return
        trial = study.trial(winner.trial)
        key = f"{self._keys[study.name]}/{trial.number}"
        if key not in self._runs:
            self._deliver_trial(client, study, trial, parent)
        run = self._runs[key]
        for scored in (run, parent):
            for name, value in winner_metrics(winner).items():
                client.log_metric(scored, name, value, timestamp=0, step=0)
        if said := winner_verdict(winner):
            client.set_tag(parent, "verdict", said)
        self._deliver_runs(client, study, parent, winner.runs)
        client.log_metric(parent, f"best_validation_{winner.metric}", winner.validation, timestamp=0, step=0)
        client.set_tag(run, "winner", "true")
        client.set_tag(parent, "winner", f"trial {trial.number}")
        for name, value in trial.params.items():
            client.set_tag(parent, f"best_{name}", str(value))
        if BUNDLE_TAG not in client.get_run(run).data.tags:
            self._log_bundle(client, run, winner.bundle)
        if study.mlflow_run_id not in (None, run):  # of a job that was opened once more
            client.set_tag(study.mlflow_run_id, "winner", "false")
        study.note_mlflow_run(run)
        client.set_terminated(parent)

    def _deliver_runs(self, client: "MlflowClient", study: Study, parent: str, runs: Sequence[Run]) -> None:
        """Of a confirmed winner: each seed's test scores, and mean and standard error over them."""
        if len(runs) < 2:
            return
        spreads = {f"validation_{study.facts.metric}": Spread.of([run.validation for run in runs])}
        for name in runs[0].test:
            spreads[f"test_{name}"] = Spread.of([run.test[name] for run in runs])
        for name, spread in spreads.items():
            client.log_metric(parent, f"mean_{name}", spread.mean, timestamp=0, step=0)
            client.log_metric(parent, f"sem_{name}", spread.sem or 0.0, timestamp=0, step=0)
        for run in runs:
            trial = study.trials()[run.trial]
            key = f"{self._keys[study.name]}/{trial.number}"
            if key not in self._runs:
                self._deliver_trial(client, study, trial, parent)
            for name, value in run.test.items():
                client.log_metric(self._runs[key], f"test_{name}", value, timestamp=0, step=0)

    def _log_bundle(self, client: "MlflowClient", run: str, key: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self._storage.fetch(self._storage.uri(key), Path(folder))
            client.log_artifacts(run, folder, "bundle")
        client.set_tag(run, BUNDLE_TAG, key)

    def _connect(self) -> "MlflowClient":
        """The client, made on first use: importing MLflow and making its database takes seconds."""
        if self._client is None:
            client = open_client(self._uri, self._storage)
            self._experiment_id = find_experiment(client, self._experiment, self._storage, uri=self._uri)
            self._runs = find_runs(
                client,
                self._experiment_id,
                next(iter(self._studies.values())).job,
                storage=self._storage,
                keys=self._keys.values(),
                own=self._uri == self._storage.tracking_uri,
            )
            self._client = client
        return self._client

    def _run_id(
        self,
        client: "MlflowClient",
        key: str,
        *,
        name: str,
        tags: dict[str, str],
        started: datetime | None = None,
    ) -> str:
        """The run of a trial or study: made once, with the tag that it is found by."""
        if key not in self._runs:
            run = client.create_run(
                self._experiment_id,
                start_time=_milliseconds(started),
                tags={KEY_TAG: key, STORAGE_TAG: storage_name(self._storage), **tags},
                run_name=name,
            )
            self._runs[key] = run.info.run_id
        return self._runs[key]


def _describe(error: Exception) -> str:
    """An error's kind and first line."""
    return f"{type(error).__name__}: {first_line(error)}"


def _best_metric(best: EpochResult, name: str) -> "Metric":
    from mlflow.entities import Metric

    return Metric(
        f"best_validation_{name}", best.scores.get(name, best.score), int(best.finished_at * 1000), best.epoch
    )


def _metrics(epoch: EpochResult) -> "list[Metric]":
    """One epoch's metrics, with the epoch's own time: delivered twice, they are the same."""
    from mlflow.entities import Metric

    at = int(epoch.finished_at * 1000)
    return [Metric(key, value, at, epoch.epoch) for key, value in epoch_metrics(epoch).items()]


def _milliseconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp() * 1000)
