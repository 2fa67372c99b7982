"""MLflow, brought up to the study. Logging never blocks or kills a search.

The study holds every record, so what MLflow lacks needs no queue of its own: a thread compares and delivers.
While the server is away, records wait in the study; they are delivered when it is back, or at the next
`adaptune resume`. Every delivery can be repeated: runs are found by tag, and MLflow ignores a metric that
it has with the same step, value and time.
"""

import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.storage import Storage
from search.study import Study, TrialRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

JOB_TAG, STUDY_TAG, TRIAL_TAG = "adaptune.job", "adaptune.study", "adaptune.trial"
RETRY_SECONDS = (1, 2, 5, 10, 30)
CLOSE_SECONDS = 60  # how long the end of a search waits for MLflow
_PARENT = -1  # stands for a study's parent run among trial numbers

log = logging.getLogger(__name__)


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
        self._own_store = uri is None
        self._experiment = experiment
        self._due: set[tuple[str, int]] = set()
        self._changed = threading.Condition()
        self._closing = False
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._runs: dict[str, str] = {}  # study or study/number -> run id
        self._logged: dict[str, int] = {}  # run id -> epochs delivered by this process
        self.problem: str | None = None  # why nothing could be delivered just now
        self._thread = threading.Thread(target=self._deliver_all, name="mlflow", daemon=True)

    def start(self) -> None:
        """Start delivering, first of all what MLflow may lack of earlier runs of the job."""
        for study in self._studies.values():
            self.notify(study, _PARENT)
            for trial in study.trials():
                self.notify(study, trial.number)
        self._thread.start()

    def notify(self, study: Study, number: int = _PARENT) -> None:
        """Say that a trial's record, or the study as a whole, has changed. Returns at once."""
        with self._changed:
            self._due.add((study.name, number))
            self._changed.notify()

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Deliver what is left, for at most so long; returns whether MLflow now has everything."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=seconds)
        return not self._due and not self._thread.is_alive()

    def _deliver_all(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._closing)
                if not self._due:
                    return
                name, number = item = min(self._due, key=lambda due: (due[1] != _PARENT, due))
                self._due.discard(item)
            try:
                self._deliver(self._studies[name], number)
                failures, self.problem = 0, None
            except Exception as error:  # whatever MLflow or the network throws: the search goes on
                self.problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                log.debug("MLflow is behind", exc_info=True)
                with self._changed:
                    self._due.add(item)
                    self._changed.wait_for(
                        lambda: self._closing, timeout=RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                    )
                    if self._closing:
                        time.sleep(0.5)
                failures += 1

    def _deliver(self, study: Study, number: int) -> None:
        client = self._connect()
        parent = self._run_id(study.name, name=f"{study.task}/{study.method}", tags={STUDY_TAG: study.name})
        if number == _PARENT:
            self._deliver_summary(client, study, parent)
        else:
            self._deliver_trial(client, study, study.trials()[number], parent)

    def _deliver_trial(self, client: "MlflowClient", study: Study, trial: TrialRecord, parent: str) -> None:
        from mlflow.entities import Param, RunTag
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        run = self._run_id(
            f"{study.name}/{trial.number}",
            name=f"{study.task}/{study.method}/{trial.number}",
            tags={
                TRIAL_TAG: f"{study.name}/{trial.number}",
                STUDY_TAG: study.name,
                MLFLOW_PARENT_RUN_ID: parent,
            },
        )
        new = trial.epochs[self._logged.get(run, 0) :]
        tags = {"state": trial.state, "reason": trial.reason, "seed": trial.seed, **trial.facts}
        client.log_batch(
            run,
            metrics=[metric for epoch in new for metric in _metrics(epoch)],
            params=[Param(key, str(value)) for key, value in trial.params.items()],
            tags=[RunTag(key, str(value)) for key, value in tags.items() if value is not None],
        )
        self._logged[run] = len(trial.epochs)
        if trial.state != "running":
            status = "FAILED" if trial.state == "failed" else "FINISHED"
            end = int(trial.ended.timestamp() * 1000) if trial.ended else None
            client.set_terminated(run, status=status, end_time=end)
        elif client.get_run(run).info.status != "RUNNING":
            client.update_run(run, status="RUNNING")

    def _deliver_summary(self, client: "MlflowClient", study: Study, parent: str) -> None:
        """The parent run: while searching no more than its existence; at the end summary and bundle."""
        from search.tables import study_figure, study_table

        winner = study.attributes.get("winner")
        if not winner:
            return
        trial = study.trials()[winner["trial"]]
        run = self._runs.get(f"{study.name}/{trial.number}")
        if run is None:
            self._deliver_trial(client, study, trial, parent)
            run = self._runs[f"{study.name}/{trial.number}"]
        for scored in (run, parent):
            for name, value in winner["test"].items():
                client.log_metric(scored, f"test_{name}", value, timestamp=0, step=0)
        client.log_metric(
            parent, f"best_validation_{winner['metric']}", winner["validation"], timestamp=0, step=0
        )
        client.set_tag(run, "winner", "true")
        client.set_tag(parent, "winner", f"trial {trial.number}")
        for key, value in trial.params.items():
            client.set_tag(parent, f"best_{key}", str(value))
        client.log_text(parent, study_table(study), "leaderboard.md")
        client.log_figure(parent, study_figure(study), "trials.png")
        if not any(item.path == "bundle" for item in client.list_artifacts(run)):
            self._log_bundle(client, run, winner["bundle"])
        study.note("mlflow_run_id", run)
        client.set_terminated(parent)

    def _log_bundle(self, client: "MlflowClient", run: str, key: str) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self._storage.fetch(self._storage.uri(key), Path(folder))
            client.log_artifacts(run, folder, "bundle")

    def _connect(self) -> "MlflowClient":
        """The client, made on first use: importing MLflow and making its database takes seconds."""
        if self._client is None:
            # An absent server is found out in seconds, not minutes: this thread has its own retries.
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
            import mlflow

            for noisy in ("mlflow", "alembic"):
                logging.getLogger(noisy).setLevel(logging.WARNING)
            client = mlflow.MlflowClient(tracking_uri=self._uri)
            self._experiment_id = self._make_experiment(client)
            self._runs = self._known_runs(client)
            self._client = client
        return self._client

    def _make_experiment(self, client: "MlflowClient") -> str:
        found = client.get_experiment_by_name(self._experiment)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        location = f"{self._storage.artifacts}/{self._experiment}" if self._own_store else None
        return str(client.create_experiment(self._experiment, artifact_location=location))

    def _known_runs(self, client: "MlflowClient") -> dict[str, str]:
        """The job's runs that MLflow has, by study and trial."""
        known: dict[str, str] = {}
        token: str | None = None
        job = next(iter(self._studies.values())).job
        while True:
            page = client.search_runs(
                [self._experiment_id], f"tags.`{JOB_TAG}` = '{job}'", max_results=1000, page_token=token
            )
            for run in page:
                tags = run.data.tags
                known[tags.get(TRIAL_TAG) or tags[STUDY_TAG]] = run.info.run_id
            token = page.token
            if not token:
                return known

    def _run_id(self, key: str, *, name: str, tags: dict[str, str]) -> str:
        """The run of a trial or study: made once, with the tag that it is found by."""
        if key not in self._runs:
            client = self._connect()
            if key not in self._runs:
                all_tags: dict[str, Any] = {JOB_TAG: key.split("/")[0], **tags}
                run = client.create_run(self._experiment_id, tags=all_tags, run_name=name)
                self._runs[key] = run.info.run_id
        return self._runs[key]


def _metrics(epoch: "dict[str, Any] | Any") -> "list[Metric]":
    """One epoch's metrics, with the epoch's own time: delivered twice, they are the same."""
    from mlflow.entities import Metric

    at = int(epoch["finished_at"] * 1000)
    values = {"train_loss": epoch["train_loss"], "epoch_seconds": epoch["seconds"]}
    values |= {f"validation_{name}": value for name, value in epoch["scores"].items()}
    return [Metric(key, value, at, epoch["epoch"]) for key, value in values.items()]
