"""Passwords in addresses: hidden wherever they are shown, kept out of the record, kept for their owner."""

import json
import stat

import pytest
from rich.console import Console

from search.cli.terminal import read_database
from search.errors import JobError, Problem, UserError, first_line
from search.job.job import SearchJob
from search.progress import ConsoleProgress
from search.secrets import has_secret, hide_secrets
from search.storage import Storage
from search.study import Record
from search.tracking.client import _find_secret, keep_secret

TRACKING = "http://bob:hunter2@mlflow.internal:5000"
DATABASE = "postgresql+psycopg://bob:hunter2@db/runs"


@pytest.mark.parametrize(
    "uri",
    [
        TRACKING,
        DATABASE,
        "http://bob:hun@hunter2@host/x",
        "http://:hunter2@host",
        "https://hunter2:hunter2@host".replace("hunter2:", "bob:"),
        "postgresql://host/db?user=bob&password=hunter2&sslmode=require",
        "s3://bucket/x?secret_key=hunter2",
        "https://host/?access_token=hunter2",
    ],
)
def test_a_secret_is_hidden_and_the_rest_is_left(uri):
    shown = hide_secrets(f"cannot reach {uri} (5 s), or so")
    assert "hunter2" not in shown
    assert "***" in shown
    assert shown.endswith("(5 s), or so")
    assert has_secret(uri)
    assert hide_secrets(shown) == shown


@pytest.mark.parametrize(
    "text",
    ["http://host:5000/a:b@c", "sqlite:////a:b@c/x.db", "me@host", "postgresql://bob@db/x", "a?b=c"],
)
def test_what_is_no_secret_is_left_as_it_is(text):
    assert hide_secrets(text) == text


def test_a_password_that_stands_alone_is_hidden_where_its_uri_is_known():
    assert hide_secrets("wrong: p@ss, p%40ss", "http://u:p%40ss@h") == "wrong: ***, ***"


def test_nothing_that_is_told_has_a_secret():
    console = Console(record=True, width=200)
    progress = ConsoleProgress(console)
    progress.message(f"at {TRACKING}")
    progress.warn(f"at {DATABASE}")
    told = [
        console.export_text(),
        str(JobError("job", [Problem("tracking.uri", TRACKING, "is away", "")])),
        first_line(RuntimeError(f"no answer from {DATABASE}")),
    ]
    for text in told:
        assert "***" in text
        assert "hunter2" not in text


def parse(**changes):
    raw = {"name": "a", "backbone": "b", "tasks": ["glue_cola"], **changes}
    return SearchJob.parse(raw)


def test_the_record_has_no_password():
    job = parse(tracking={"uri": TRACKING}, database=DATABASE)
    assert "hunter2" not in json.dumps(job.to_record())
    assert SearchJob.from_dict(job.to_record()).tracking.uri == "http://bob:***@mlflow.internal:5000"
    assert parse().to_record() == parse().to_dict()


def test_a_tracking_password_is_kept_for_its_owner_and_found_at_a_resume(tmp_path):
    storage = Storage(str(tmp_path))
    keep_secret(TRACKING, storage)
    keep_secret("http://bob:other@elsewhere", storage)
    keep_secret("http://plain:5000", storage)
    assert _find_secret(hide_secrets(TRACKING), storage) == TRACKING
    assert _find_secret(TRACKING, storage) == TRACKING
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "plain" not in file.read_text()


def test_a_tracking_password_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=r"the password of http://bob:\*\*\*@.* is not known here"):
        _find_secret(hide_secrets(TRACKING), Storage(str(tmp_path)))


def test_nothing_is_kept_without_a_password(tmp_path):
    keep_secret("http://plain:5000", Storage(str(tmp_path)))
    keep_secret(None, Storage(str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_a_databases_address_may_come_from_a_file(tmp_path):
    (tmp_path / "db").write_text(f"{DATABASE}\n")
    assert read_database(f"@{tmp_path / 'db'}") == DATABASE
    assert read_database(DATABASE) == DATABASE
    assert read_database(None) is None
    with pytest.raises(UserError, match="cannot be read"):
        read_database(f"@{tmp_path / 'nothing'}")


@pytest.mark.parametrize("uri", ["postgresql+nodriver://bob:hunter2@host/db", "bob:hunter2@host"])
def test_a_database_that_cannot_be_opened_is_named_without_its_password(tmp_path, uri):
    with pytest.raises(UserError, match=r"cannot be opened: .*--database name it") as error:
        Record(Storage(str(tmp_path), uri))
    assert ("hunter2" not in str(error.value)) is ("://" in uri)
