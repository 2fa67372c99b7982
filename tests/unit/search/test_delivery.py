"""The end of a search: MLflow up to date, and each study's page there, which fails no job."""

from types import SimpleNamespace

import pytest
from studies import add, create, note_winner, opened

from search import delivery
from search.progress import Progress
from search.storage import Storage

JOB = SimpleNamespace(name="job", tracking=SimpleNamespace(uri=None, experiment=None))


class Tracker:
    """One that has delivered everything."""

    behind = False

    def __init__(self, *_, **__):
        pass

    def start(self, **_):
        pass

    def notify(self, *_):
        pass

    def close(self, *_, **__):
        return True


@pytest.fixture
def logged(monkeypatch):
    """What pages MLflow gets."""
    pages = {}
    monkeypatch.setattr(delivery, "Tracker", Tracker)
    monkeypatch.setattr(delivery, "log_pages", lambda found, *_, **__: pages.update(found))
    return pages


def finish(folder, *, finished=True):
    with opened(folder) as record:
        study = create(record)
        add(study, [0.5])
        if finished:
            note_winner(study, 0)
        with delivery.tracking(JOB, Storage(str(folder)), [study], Progress()):
            pass
        return study.tracked, study.tracking_key


def test_a_finished_job_has_the_page_of_each_study_with_its_figures(logged, tmp_path):
    tracked, key = finish(tmp_path)
    assert tracked
    assert {"report.html", "best_by_trial.svg"} <= logged[key].keys()


def test_a_job_that_is_not_finished_has_none(logged, tmp_path):
    assert not finish(tmp_path, finished=False)[0]
    assert logged == {}


def test_a_page_that_cannot_be_made_fails_no_job(logged, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(delivery, "job_files", fail)
    assert finish(tmp_path)[0]
    assert logged == {}


def test_a_server_that_takes_no_page_fails_no_job(logged, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(delivery, "log_pages", fail)
    assert finish(tmp_path)[0]
