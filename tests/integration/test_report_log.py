"""`adaptune report` as it is typed, and its run in MLflow beside the job's own."""

import sys
from pathlib import Path

import mlflow
import pytest
from studies import add, create, note_winner, opened

from search.cli import app as cli
from search.secrets import hide_secrets
from search.storage import Storage
from search.tracking.client import keep_secret
from search.tracking.report import REPORT_TAG, log_pages, log_report
from search.tracking.runs import JOB_TAG, KEY_TAG
from search.tracking.tracker import Tracker

pytestmark = pytest.mark.integration

VALUES = {"adapter_size": [8, 64], "learning_rate": [1e-4, 1e-3]}


def fill(folder, **facts):
    """A finished job in a storage."""
    with opened(folder) as record:
        study = create(record, "tickets/queue/adapter", **facts)
        for size, score in ((8, 0.6), (64, 0.7)):
            add(study, [score], params={"adapter_size": size, "learning_rate": 1e-3}, values=VALUES)
        note_winner(study, 1, test={"accuracy": 0.65})
        (folder / "tickets/bundles/queue/adapter").mkdir(parents=True)
        (folder / "tickets/bundles/queue/adapter/config.json").write_text("{}")
    return Storage(str(folder))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A storage with a finished job that MLflow has already."""
    storage = fill(tmp_path_factory.mktemp("runs"))
    deliver(storage)
    return storage


def deliver(storage):
    with opened(storage.path("")) as record:
        tracker = Tracker(record.studies("tickets"), storage, uri=None, experiment="tickets")
        tracker.start()
        assert tracker.close(120), tracker.problem


def all_runs(storage):
    client = mlflow.MlflowClient(storage.tracking_uri)
    experiment = client.get_experiment_by_name("tickets")
    return client.search_runs([experiment.experiment_id])


def artifacts(storage, run):
    client = mlflow.MlflowClient(storage.tracking_uri)
    return {artifact.path for artifact in client.list_artifacts(run, "report")}


def test_a_report_is_logged_once_and_the_jobs_runs_stay_what_they_were(place):
    before = {run.info.run_id for run in all_runs(place)}
    first = log_report(["tickets"], {"report.md": b"one"}, place)
    assert log_report(["tickets"], {"report.md": b"one"}, place) == first
    other = log_report(["tickets"], {"report.md": b"two"}, place)
    deliver(place)
    after = {run.info.run_id: run for run in all_runs(place)}
    assert after.keys() == before | {first, other}
    assert artifacts(place, first) == {"report/report.md"}
    assert after[first].info.status == "FINISHED"
    assert JOB_TAG not in after[first].data.tags


def test_a_report_whose_logging_was_cut_short_is_completed(place, monkeypatch):
    files = {"report.md": b"cut"}

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(mlflow.MlflowClient, "log_artifacts", fail)
    with pytest.raises(OSError, match="full"):
        log_report(["tickets"], files, place)
    monkeypatch.undo()
    run = log_report(["tickets"], files, place)
    assert artifacts(place, run) == {"report/report.md"}
    tags = [one.data.tags.get(REPORT_TAG) for one in all_runs(place)]
    assert len(tags) - tags.count(None) == len({*tags} - {None})


def adaptune(monkeypatch, capsys, *arguments):
    monkeypatch.setenv("ADAPTUNE_DEBUG", "")
    monkeypatch.setattr(sys, "argv", ["adaptune", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, *capsys.readouterr()


def test_the_command_writes_the_report_and_says_what_it_left_out(place, tmp_path, monkeypatch, capsys):
    arguments = ("report", "tickets", "--paper", "--storage", place.root, "--out", tmp_path / "out")
    code, out, err = adaptune(monkeypatch, capsys, *arguments)
    assert (code, err) == (0, "")
    assert (tmp_path / "out" / "report.html").is_file()
    assert "drawn: Figure 4" in out
    assert "left out: Figure 7" in out
    assert "MLflow run: " in out


def test_without_mlflow_the_report_is_written_and_that_is_said(place, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("search.tracking.report.open_client", fail)
    arguments = ("report", "tickets", "--storage", place.root, "--out", tmp_path / "out")
    code, _, err = adaptune(monkeypatch, capsys, *arguments)
    assert code == 0
    assert err == "MLflow does not have it: ConnectionError: no route to host\n"
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_job_that_is_not_there_is_named(place, tmp_path, monkeypatch, capsys):
    arguments = ("report", "tickets", "nope", "--storage", place.root, "--out", tmp_path / "out")
    code, _, err = adaptune(monkeypatch, capsys, *arguments)
    assert code == 2
    assert "no job 'nope'" in err
    assert not (tmp_path / "out").exists()


def test_a_server_that_does_not_answer_is_told_without_its_password(tmp_path, monkeypatch, capsys):
    uri = "http://bob:hunter2@127.0.0.1:1"
    storage = fill(tmp_path / "runs", job={"tracking": {"uri": hide_secrets(uri)}})
    keep_secret(uri, storage)
    arguments = ("report", "tickets", "--storage", storage.root, "--out", tmp_path / "out")
    code, out, err = adaptune(monkeypatch, capsys, *arguments)
    assert code == 0
    assert "MLflow does not have it: " in err
    assert "bob:***@127.0.0.1" in err
    assert "hunter2" not in out + err


def test_of_one_job_the_command_writes_the_page_for_its_owner(place, tmp_path, monkeypatch, capsys):
    arguments = ("report", "tickets", "--storage", place.root, "--out", tmp_path / "out")
    code, out, err = adaptune(monkeypatch, capsys, *arguments)
    assert (code, err) == (0, "")
    assert "drawn" not in out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]
    assert "What to try next" in (tmp_path / "out" / "report.html").read_text()


def test_a_page_and_its_figures_are_on_the_studys_own_run(place):
    with opened(place.path("")) as record:
        (study,) = record.studies("tickets")
        key = study.tracking_key
    for content in (b"old", b"new"):
        files = {"report.html": content, "importance.svg": b"<svg/>"}
        log_pages({key: files}, "tickets", place, uri=None, experiment=None)
    (parent,) = [run for run in all_runs(place) if run.data.tags.get(KEY_TAG) == key]
    assert artifacts(place, parent.info.run_id) == {"report/report.html", "report/importance.svg"}
    client = mlflow.MlflowClient(place.tracking_uri)
    page = client.download_artifacts(parent.info.run_id, "report/report.html")
    assert Path(page).read_bytes() == b"new"
