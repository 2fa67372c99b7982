"""MLflow as users see it: one contract for a bare database and for a real server."""

import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from mlflow_jobs import DEADLINE, Job, Server
from processes import free_port
from studies import add, epochs, opened, start

from search.storage import Storage
from search.tracking import system
from search.tracking import tracker as tracking
from search.tracking.runs import KEY_TAG, TRIAL_TAG
from search.tracking.tracker import Tracker
from search.workers.reports import HostState

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory, database):
    server = Server(tmp_path_factory.mktemp("server"), database)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An MLflow database without runs: making its tables takes seconds."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Start in an empty folder: whatever MLflow drops there is seen. Retry without losing time."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tracking, "RETRY_SECONDS", (0.1, 0.2))
    monkeypatch.setattr(tracking, "CLOSING_RETRY_SECONDS", 0.1)


@pytest.fixture
def make_job(tmp_path, database):
    """Make a job in a storage of its own, whose MLflow has its tables already."""
    root = tmp_path / "runs"
    with opened(root) as record:

        def make(uri):
            shutil.copy(database, root / "mlflow.db")
            return Job(record, Storage(str(root)), uri, f"job{free_port()}")

        yield make


@pytest.fixture(params=["database", "server"])
def job(request, make_job):
    return make_job(request.getfixturevalue("server").uri if request.param == "server" else None)


def wait_until(reached):
    deadline = time.monotonic() + DEADLINE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_is_an_experiment_a_study_a_parent_and_a_trial_its_child(job):
    first, second = job.studies
    add(first, [0.5])
    add(first, [0.6])
    add(second, [0.7])
    job.deliver()
    runs = job.runs()
    name = job.name
    assert set(runs) == {
        f"{name}/a/adapter",
        f"{name}/a/adapter/0",
        f"{name}/a/adapter/1",
        f"{name}/b/adapter",
        f"{name}/b/adapter/0",
    }
    for key, run in runs.items():
        parent = run.data.tags.get("mlflow.parentRunId")
        study = key.rsplit("/", 1)[0]
        assert parent == (runs[study].info.run_id if key.count("/") == 3 else None)


def test_a_trial_has_its_parameters_metrics_and_tags(job):
    study = job.studies[0]
    params = {"adapter_size": 64, "learning_rate": 0.001, "epochs": 3}
    number = start(study, params, seed=5)
    study.note_trial(number, node="worker-7", trained_parameters=1234)
    study.record_epochs(number, epochs([0.5, 0.75], losses=[0.7, 0.6]))
    study.finish_trial(number, "complete")
    job.deliver()
    run = job.run("a/adapter/0")
    assert run.data.params == {"adapter_size": "64", "learning_rate": "0.001", "epochs": "3"}
    validation = {"validation_accuracy", "validation_f1", "best_validation_accuracy", "validation_loss"}
    assert set(run.data.metrics) == {"train_loss", "epoch_seconds", *validation}
    assert job.history(run, "best_validation_accuracy") == [(2, 0.75)]
    assert job.history(run, "validation_accuracy") == [(1, 0.5), (2, 0.75)]
    assert job.history(run, "validation_f1") == [(1, 0.25), (2, 0.375)]
    assert job.history(run, "train_loss") == [(1, 1.0), (2, 0.5)]
    assert job.history(run, "validation_loss") == [(1, 0.7), (2, 0.6)]
    assert job.history(run, "epoch_seconds") == [(1, 0.5), (2, 0.5)]
    tags = run.data.tags
    assert {key: tags[key] for key in ("state", "seed", "trained_parameters", "node")} == {
        "state": "complete",
        "seed": "5",
        "trained_parameters": "1234",
        "node": "worker-7",
    }
    assert "reason" not in tags
    assert run.info.status == "FINISHED"


def test_a_run_lasts_as_long_as_its_trial_did_however_late_it_is_delivered(job):
    study = job.studies[0]
    add(study, [0.5])
    (trial,) = study.trials()
    job.deliver()
    info = job.run("a/adapter/0").info
    assert info.start_time == int(trial.started.timestamp() * 1000)
    assert info.end_time == int(trial.ended.timestamp() * 1000)


def test_runs_end_as_their_trials_did(job):
    study = job.studies[0]
    add(study, [0.9], "failed", reason="TrialDiverged: loss is nan")
    add(study, [0.3], "pruned", reason="below the median")
    start(study)
    job.deliver()
    runs = [job.run(f"a/adapter/{number}") for number in range(3)]
    assert [run.info.status for run in runs] == ["FAILED", "FINISHED", "RUNNING"]
    assert [run.data.tags["state"] for run in runs] == ["failed", "pruned", "running"]
    assert [run.data.tags.get("reason") for run in runs] == [
        "TrialDiverged: loss is nan",
        "below the median",
        None,
    ]


def test_what_was_delivered_before_is_not_delivered_twice(job):
    study = job.studies[0]
    add(study, [0.5, 0.75])
    unfinished = add(study, [0.4], "running")
    job.deliver()
    before = {key: run.info.run_id for key, run in job.runs().items()}
    study.record_epochs(unfinished, epochs([0.4, 0.6]))
    study.finish_trial(unfinished, "complete")
    job.deliver()
    job.deliver()
    assert {key: run.info.run_id for key, run in job.runs().items()} == before
    assert job.history(job.run("a/adapter/0"), "validation_accuracy") == [(1, 0.5), (2, 0.75)]
    assert job.history(job.run("a/adapter/1"), "validation_accuracy") == [(1, 0.4), (2, 0.6)]
    assert job.run("a/adapter/1").info.status == "FINISHED"


def test_a_trial_that_is_taken_up_again_runs_again(job):
    study = job.studies[0]
    number = start(study)
    job.deliver()
    run = job.run("a/adapter/0").info.run_id
    job.client.set_terminated(run, status="KILLED")
    study.record_epochs(number, epochs([0.4]))
    job.deliver()
    assert job.run("a/adapter/0").info.status == "RUNNING"


def test_news_arrive_while_the_search_runs(job):
    study = job.studies[0]
    tracker = job.tracker()
    tracker.start()
    number = start(study)
    tracker.notify(study, number)
    for scores in ([0.1], [0.1, 0.2]):
        study.record_epochs(number, epochs(scores))
        tracker.notify(study, number)
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and not (job.experiment and f"{study.name}/0" in job.runs()):
        time.sleep(0.1)
    assert job.run("a/adapter/0").info.status == "RUNNING"
    study.finish_trial(number, "complete")
    tracker.notify(study, number)
    assert tracker.close(DEADLINE)
    assert job.history(job.run("a/adapter/0"), "validation_accuracy") == [(1, 0.1), (2, 0.2)]


def test_of_a_trial_that_goes_on_only_what_is_new_is_sent(make_job, monkeypatch):
    job = make_job(None)
    study, tracker = job.studies[0], job.tracker()
    number = start(study)
    study.note_trial(number, node="worker-7", trained_parameters=1234)
    sent = []
    log_batch = mlflow.MlflowClient.log_batch

    def count(client, run, *, metrics, params, tags):
        sent.append((sorted({metric.step for metric in metrics}), len(params), len(tags)))
        log_batch(client, run, metrics=metrics, params=params, tags=tags)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", count)
    tracker.start()
    for done in (1, 2):
        study.record_epochs(number, epochs([0.5, 0.75][:done]))
        tracker.notify(study, number)
        wait_until(lambda done=done: sent and sent[-1][0][-1:] == [done])
    assert tracker.close(DEADLINE), tracker.problem
    assert [steps for steps, *_ in sent if steps] == [[1], [2]]
    assert [params for _, params, _ in sent if params] == [3]
    assert [tags for *_, tags in sent if tags] == [4]  # state, seed, size and node


def test_only_news_of_trials_that_run_leave_the_search_its_time(make_job, monkeypatch):
    monkeypatch.setattr(tracking, "SHARE", 1e-9)  # of the time: after one of them nothing more comes
    job = make_job(None)
    study, tracker = job.studies[0], job.tracker()
    for scores in ([0.5], [0.6]):
        add(study, scores)
    add(study, [0.7], "running")
    late = add(study, [0.8])
    tracker.start()
    wait_until(lambda: job.experiment and f"{study.name}/2" in job.runs())
    assert f"{study.name}/{late}" not in job.runs()
    assert {f"{study.name}/0", f"{study.name}/1"} <= set(job.runs())
    assert tracker.close(DEADLINE), tracker.problem  # the end waits for none of this
    assert f"{study.name}/{late}" in job.runs()


def test_a_trial_with_news_all_the_time_does_not_hold_up_the_others(make_job, monkeypatch):
    job = make_job(None)
    busy, quiet = job.studies
    number, other = start(busy), start(quiet)
    tracker, order = job.tracker(), []
    deliver = Tracker._deliver

    def deliver_and_change(self, study, one):
        order.append((study.name, one))
        if len(order) < 20:
            tracker.notify(busy, number)
        deliver(self, study, one)

    monkeypatch.setattr(Tracker, "_deliver", deliver_and_change)
    tracker.start()
    assert tracker.close(DEADLINE), tracker.problem
    trials = [one for one in order if one[1] >= 0]
    assert trials[:2] == [(busy.name, number), (quiet.name, other)]


def test_what_gpus_do_is_a_system_metric_of_each_studys_run_twice_a_minute(job, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(system, "time", SimpleNamespace(monotonic=lambda: now[0]))
    tracker = job.tracker()
    tracker.start()
    for seconds, watts in ((0, 100.0), (10, 200.0), (29, 300.0), (30, 400.0)):
        now[0] = 1000.0 + seconds
        tracker.note_hosts([HostState(8, (8,), "gpu-1", {"gpu_0_power_usage_watts": watts})])
    assert tracker.close(DEADLINE), tracker.problem
    for study in "ab":
        run = job.run(f"{study}/adapter")
        found = job.client.get_metric_history(run.info.run_id, "system/gpu-1/gpu_0_power_usage_watts")
        assert sorted(metric.value for metric in found) == [100.0, 300.0]  # the first one, then a mean


def test_hosts_without_a_gpu_leave_no_metric(make_job):
    job = make_job(None)
    tracker = job.tracker()
    tracker.start()
    tracker.note_hosts([HostState(8, (8,), "node-1")])
    assert tracker.close(DEADLINE), tracker.problem
    assert job.run("a/adapter").data.metrics == {}


def test_a_long_trial_is_delivered_whole(job):
    # A server takes 1000 metrics in a call; this trial has 4 * 300.
    study = job.studies[0]
    number = start(study)
    study.record_epochs(number, epochs([step / 300 for step in range(300)]))
    study.finish_trial(number, "complete")
    job.deliver()
    assert len(job.history(job.run("a/adapter/0"), "validation_accuracy")) == 300


def test_the_winner_has_its_bundle_and_its_parent_the_summary(job, tmp_path):
    study = job.studies[0]
    add(study, [0.5])
    number = add(study, [0.6, 0.8])
    job.deliver()
    job.win(study, number)
    job.deliver()
    run, parent = job.run(f"a/adapter/{number}"), job.run("a/adapter")
    assert job.artifacts(run, "bundle") == ["bundle/adapter.safetensors", "bundle/config.json"]
    assert run.data.tags["winner"] == "true"
    assert run.data.metrics["test_accuracy"] == 0.5
    assert job.artifacts(parent) == ["leaderboard.md", "trials.png"]
    assert parent.data.metrics["best_validation_accuracy"] == 0.8
    assert parent.data.metrics["test_f1"] == 0.25
    assert parent.data.metrics["validation_mismatched_accuracy"] == 0.4
    assert parent.data.tags["winner"] == f"trial {number}"
    assert parent.info.status == "FINISHED"
    assert study.mlflow_run_id == run.info.run_id
    leaderboard = Path(job.client.download_artifacts(parent.info.run_id, "leaderboard.md", str(tmp_path)))
    assert "| 1 |" in leaderboard.read_text()
    picture = Path(job.client.download_artifacts(parent.info.run_id, "trials.png", str(tmp_path)))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert job.artifacts(job.run("a/adapter/0")) == []
    assert job.run("b/adapter").info.status == "RUNNING"


def test_a_bundle_is_uploaded_once_and_whole(job, monkeypatch):
    study = job.studies[0]
    job.win(study, add(study, [0.6]))
    uploads = []
    upload = mlflow.MlflowClient.log_artifacts

    def broken_at_first(self, run, folder, path):
        uploads.append(path)
        if len(uploads) == 1:  # the connection breaks after the first file
            self.log_artifact(run, str(Path(folder, "config.json")), path)
            raise OSError("connection reset")
        upload(self, run, folder, path)

    monkeypatch.setattr(mlflow.MlflowClient, "log_artifacts", broken_at_first)
    job.deliver()
    job.deliver()
    assert uploads == ["bundle", "bundle"]
    assert len(job.artifacts(job.run("a/adapter/0"), "bundle")) == 2


def test_a_study_that_failed_ends_its_parent_with_the_reason(job):
    study = job.studies[0]
    add(study, [], "failed", reason="OutOfMemoryError: no room")
    study.fail("no trial of 1 ended well: OutOfMemoryError: no room")
    job.deliver()
    parent = job.run("a/adapter")
    assert parent.info.status == "FAILED"
    assert "no room" in parent.data.tags["reason"]
    assert "leaderboard.md" in job.artifacts(parent)


def test_a_run_whose_making_was_answered_too_late_is_not_made_twice(job, monkeypatch):
    add(job.studies[0], [0.5])
    create_run = mlflow.MlflowClient.create_run
    made = []

    def lose_the_answer(self, *arguments, **more):
        run = create_run(self, *arguments, **more)
        made.append(run)
        if len(made) <= 2:
            raise TimeoutError("read timed out")
        return run

    monkeypatch.setattr(mlflow.MlflowClient, "create_run", lose_the_answer)
    job.deliver()
    assert len(made) == len(job.runs()) == 3


def test_a_record_that_mlflow_refuses_does_not_hold_up_the_others(job, monkeypatch):
    study = job.studies[0]
    add(study, [0.5])
    add(study, [0.6])
    log_batch = mlflow.MlflowClient.log_batch

    def refuse_the_first(self, run, **more):
        if self.get_run(run).data.tags[TRIAL_TAG].endswith("/0"):
            raise ValueError("not this one\nand a second line")
        log_batch(self, run, **more)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", refuse_the_first)
    tracker = job.tracker()
    tracker.start()
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and not (tracker.problem and len(tracker._due) == 1):
        time.sleep(0.05)
    assert not tracker.close(1)
    assert tracker.problem == "ValueError: not this one"
    assert job.run("a/adapter/1").info.status == "FINISHED"


def test_a_search_of_the_same_name_elsewhere_has_runs_of_its_own(job, tmp_path):
    # The same server and name, another storage: trial 0 there is another trial.
    add(job.studies[0], [0.5], params={"adapter_size": 8, "learning_rate": 1e-3, "epochs": 3})
    job.deliver()
    with opened(tmp_path / "other") as record:
        uri = job.uri or job.storage.tracking_uri
        other = Job(record, Storage(str(tmp_path / "other")), uri, job.name)
        add(other.studies[0], [0.9], params={"adapter_size": 64, "learning_rate": 1e-3, "epochs": 3})
        other.deliver()
        other.deliver()
    runs = job.client.search_runs([job.experiment.experiment_id], f"tags.`{TRIAL_TAG}` LIKE '%/0'")
    assert sorted(run.data.params["adapter_size"] for run in runs) == ["64", "8"]
    assert len({run.data.tags[KEY_TAG] for run in runs}) == 2


def test_a_run_that_the_user_deleted_is_made_anew(job):
    add(job.studies[0], [0.5])
    job.deliver()
    deleted = job.run("a/adapter/0").info.run_id
    job.client.delete_run(deleted)
    job.deliver()
    run = job.run("a/adapter/0")
    assert run.info.run_id != deleted
    assert job.history(run, "validation_accuracy") == [(1, 0.5)]


def test_nothing_is_printed_over_the_view_of_the_search(job, capfd):
    job.win(job.studies[0], add(job.studies[0], [0.5]))
    job.deliver()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("own", [True, False])
def test_artifacts_of_a_database_lie_under_the_storage(make_job, tmp_path, own):
    job = make_job(None if own else f"sqlite:///{tmp_path}/runs/mlflow.db")
    job.win(job.studies[0], add(job.studies[0], [0.5]))
    job.deliver()
    assert job.experiment.artifact_location == f"{job.storage.root}/mlartifacts/{job.name}"
    stored = {path.name for path in job.storage.path("mlartifacts").rglob("*") if path.is_file()}
    assert stored == {"config.json", "adapter.safetensors", "leaderboard.md", "trials.png"}
    assert list((tmp_path / "here").iterdir()) == []


def test_artifacts_of_a_server_go_where_it_puts_them(make_job, server, tmp_path):
    job = make_job(server.uri)
    job.win(job.studies[0], add(job.studies[0], [0.5]))
    job.deliver()
    assert job.experiment.artifact_location.startswith("mlflow-artifacts:")
    assert list((server.folder / "server-artifacts").rglob("trials.png"))
    assert not job.storage.path("mlartifacts").exists()
    assert list((tmp_path / "here").iterdir()) == []


def test_a_server_that_is_away_holds_up_nothing_and_gets_everything_when_it_comes(
    make_job, tmp_path, database
):
    server = Server(tmp_path, database)
    job = make_job(server.uri)
    study = job.studies[0]
    tracker = job.tracker()
    tracker.start()
    slowest = 0.0
    for _ in range(3):
        number = add(study, [0.5, 0.6])
        for _ in range(20):
            before = time.perf_counter()
            tracker.notify(study, number)
            slowest = max(slowest, time.perf_counter() - before)
    assert slowest < 0.5
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and tracker.problem is None:
        time.sleep(0.1)
    assert tracker.problem
    try:
        server.start()
        assert tracker.close(DEADLINE), tracker.problem
        assert tracker.problem is None
        assert len(job.runs()) == 2 + 3
        assert job.history(job.run("a/adapter/2"), "validation_accuracy") == [(1, 0.5), (2, 0.6)]
    finally:
        server.stop()


def test_the_first_delivery_leaves_the_workers_a_head_start_but_the_end_does_not_wait_for_it(make_job):
    job = make_job(None)
    add(job.studies[0], [0.5])
    tracker = job.tracker()
    tracker.start(after=3600)
    time.sleep(2)
    assert job.experiment is None
    assert tracker.close(DEADLINE), tracker.problem
    assert job.run("a/adapter/0").info.status == "FINISHED"


def test_closing_gives_up_in_time_when_the_server_never_comes(make_job):
    job = make_job(f"http://127.0.0.1:{free_port()}")
    add(job.studies[0], [0.5])
    tracker = job.tracker()
    tracker.start()
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and tracker.problem is None:
        time.sleep(0.1)
    before = time.monotonic()
    assert not tracker.close(1)
    assert time.monotonic() - before < 3
    assert "127.0.0.1" in tracker.problem
    tracker._thread.join(timeout=DEADLINE)
    assert not tracker._thread.is_alive()  # it does not go on trying for ever
