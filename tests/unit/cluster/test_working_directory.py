"""Files that may hold a password, in the working directory that Ray unpacks where other users may read it."""

import contextlib
import signal
import stat
import sys
from types import SimpleNamespace

import pytest

from search import probe
from search.cli import app as cli
from search.wire import DATABASE_FILE, JOB_FILE, REQUEST_FILE, version
from search.workers.context import open_backbone

NODE = {"version": version(), "locations": [], "folder": None, "storage": "/mnt/runs"}


def adaptune(*arguments):
    sys.argv = ["adaptune", *arguments]
    with pytest.raises(SystemExit):
        cli.main()


def start_worker():
    with contextlib.suppress(AttributeError):  # the context has nothing else
        open_backbone(SimpleNamespace(methods=()))


@pytest.mark.parametrize(
    "begin",
    [
        lambda: probe.main("nonce", "run", "results", "tickets"),
        lambda: probe.examine_node(NODE, "node"),
        lambda: adaptune("run", JOB_FILE, "--cluster"),
        lambda: adaptune("resume", "tickets", "--cluster"),
        start_worker,
    ],
    ids=["a call", "the look at a node", "run", "resume", "a worker"],
)
def test_whatever_begins_in_a_working_directory_closes_what_may_hold_a_password(tmp_path, monkeypatch, begin):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv("ADAPTUNE_DEBUG", "")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(probe, "run", lambda _: {})
    secret = (JOB_FILE, REQUEST_FILE, DATABASE_FILE)
    for name in (*secret, "train.csv"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)  # whatever the umask
    begin()
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in (*secret, "train.csv")}
    assert modes == {**dict.fromkeys(secret, 0o600), "train.csv": 0o644}


def test_a_working_directory_without_them_is_fine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert probe.examine_node(NODE, "node") == []
    assert list(tmp_path.iterdir()) == []
