"""Commands that are printed can be typed as they are."""

import re
import shlex
from pathlib import Path

import pytest

import search
from search.commands import command, storage_options
from search.storage import Storage

SOURCES = Path(search.__file__).parent
WRITTEN_BY_HAND = re.compile(r"adaptune (?:resume|results|export|report|logs|stop|ui)[^`\"']*\{")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["script.py"])


def typed(root, database=None):
    return command("resume", "tickets", *storage_options(Storage(str(root), database)))


def test_where_a_command_looks_anyway_nothing_is_said(tmp_path):
    assert typed(tmp_path / "runs") == "adaptune resume tickets"


def test_another_storage_is_named_so_that_a_shell_takes_it_whole(tmp_path):
    storage = tmp_path / "my runs; rm *"
    assert shlex.split(typed(storage)) == ["adaptune", "resume", "tickets", "--storage", str(storage)]


def test_a_database_of_its_own_is_named(tmp_path):
    database = "postgresql+psycopg://me@host/db?options=a b"
    assert shlex.split(typed(tmp_path / "runs", database))[3:] == ["--database", database]


@pytest.mark.parametrize("database", ["postgresql://me:hush@host/db", "postgresql://host/db?password=hush"])
def test_a_database_with_a_password_is_to_be_read_from_a_file(tmp_path, database):
    assert typed(tmp_path / "runs", database) == "adaptune resume tickets --database @FILE"


def test_no_command_for_a_job_is_written_without_its_storage():
    found = {
        path.name: WRITTEN_BY_HAND.findall(path.read_text(encoding="utf-8")) for path in SOURCES.rglob("*.py")
    }
    assert found
    assert {name: commands for name, commands in found.items() if commands} == {}
