"""A real MLflow server, and jobs filled by hand that are delivered to one."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import mlflow
from processes import free_port
from studies import create, note_winner

from search.storage import bundle_key
from search.tracking.runs import STUDY_TAG, TRIAL_TAG
from search.tracking.tracker import Tracker

DEADLINE = 60  # seconds; only a test that fails waits so long


class Server:
    """A real `mlflow server`, that can be away."""

    def __init__(self, folder, database):
        self.folder = folder
        shutil.copy(database, folder / "server.db")
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process = None

    def start(self):
        arguments = {
            "host": "127.0.0.1",
            "port": self.port,
            "backend-store-uri": f"sqlite:///{self.folder}/server.db",
            "artifacts-destination": self.folder / "server-artifacts",
            "workers": 1,
        }
        with (self.folder / "server.log").open("w") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "mlflow",
                    "server",
                    *(f"--{key}={one}" for key, one in arguments.items()),
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                env={
                    **os.environ,
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a dozen processes of its own
                },
            )
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):  # noqa: S310 - our own
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise RuntimeError((self.folder / "server.log").read_text())

    def stop(self):
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # a session of its own, made above
            self._process.wait(timeout=20)
            self._process = None


class Job:
    """A job with two studies, filled by hand, and its MLflow."""

    def __init__(self, record, storage, uri, name):
        self.record, self.storage, self.uri, self.name = record, storage, uri, name
        self.studies = [
            create(record, f"{name}/{task}/adapter", position=place) for place, task in enumerate(("a", "b"))
        ]

    def tracker(self, uri=None):
        return Tracker(self.studies, self.storage, uri=uri or self.uri, experiment=self.name)

    def deliver(self):
        """What a driver does that starts and ends: everything is in MLflow afterwards."""
        tracker = self.tracker()
        tracker.start()
        assert tracker.close(DEADLINE), tracker.problem

    @property
    def client(self):
        return mlflow.MlflowClient(self.uri or self.storage.tracking_uri)

    @property
    def experiment(self):
        return self.client.get_experiment_by_name(self.name)

    def runs(self):
        """Runs by the tag that names their trial or study."""
        runs = self.client.search_runs([self.experiment.experiment_id], max_results=1000)
        named = {run.data.tags.get(TRIAL_TAG) or run.data.tags[STUDY_TAG]: run for run in runs}
        assert len(named) == len(runs), "two runs of one trial"
        return named

    def run(self, name):
        return self.runs()[f"{self.name}/{name}"]

    def history(self, run, metric):
        found = self.client.get_metric_history(run.info.run_id, metric)
        return [(one.step, one.value) for one in sorted(found, key=lambda one: one.step)]

    def artifacts(self, run, folder=None):
        return sorted(one.path for one in self.client.list_artifacts(run.info.run_id, folder))

    def win(self, study, number):
        """End a study as the driver does: a bundle in the storage, and a winner in the study."""
        key = bundle_key(study.job, study.task, study.method)
        self.storage.write(f"{key}/config.json", b"{}")
        self.storage.write(f"{key}/adapter.safetensors", b"weights")
        note_winner(study, number, also={"validation_mismatched": {"accuracy": 0.4}})
