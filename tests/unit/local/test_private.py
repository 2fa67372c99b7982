"""Folders for temporary things that no other user of the machine can look into or put anything in."""

import os
import pwd
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from search.errors import UserError
from search.local import private
from search.local.private import PrivateFolder, ensure_home, own_folder

SOCKET = "/sockets/store"


@pytest.fixture
def parents(monkeypatch, short_folder):
    """Two folders for temporary files, of which the first is the user's choice."""
    folders = [short_folder / "a", short_folder / "b"]
    for folder in folders:
        folder.mkdir(mode=0o700)
    monkeypatch.setattr(private, "_parents", lambda: folders)
    return folders


@pytest.fixture
def short_folder():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket's path may have 107 bytes
        yield Path(folder)


@pytest.fixture
def temporary(monkeypatch, tmp_path):
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def mode_of(folder):
    return stat.S_IMODE(folder.stat().st_mode)


def test_a_private_folder_is_closed_to_others_and_goes_when_it_is_done_with(parents):
    folder, other = (PrivateFolder(deepest_socket=SOCKET) for _ in range(2))
    assert mode_of(folder.path) == 0o700
    assert folder.path.parent == parents[0]
    assert folder.path != other.path
    folder.remove()
    other.remove()
    assert list(parents[0].iterdir()) == []


def test_a_folder_too_deep_for_a_socket_is_passed_over(parents, monkeypatch):
    deep = parents[0] / ("x" * 120)
    deep.mkdir()
    monkeypatch.setattr(private, "_parents", lambda: [deep, parents[1]])
    assert PrivateFolder(deepest_socket=SOCKET).path.parent == parents[1]
    assert list(deep.iterdir()) == []


@pytest.mark.parametrize(("mode", "used"), [(0o777, 1), (0o775, 1), (0o1777, 0), (0o755, 0)])
def test_a_folder_in_which_others_can_rename_things_is_passed_over(mode, used, parents):
    parents[0].chmod(mode)
    assert PrivateFolder(deepest_socket=SOCKET).path.parent == parents[used]


def test_where_no_folder_will_do_the_message_says_what_to_set(parents):
    for parent in parents:
        parent.chmod(0o777)
    with pytest.raises(UserError, match=r"other users can rename.*Set TMPDIR to a folder of your own"):
        PrivateFolder(deepest_socket=SOCKET)


def test_temporary_folders_are_looked_for_where_the_environment_says_first(temporary, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    found = private._parents()
    assert found[0] == temporary
    assert Path("/run/user/1000") in found


def test_what_a_killed_process_left_a_day_ago_is_removed(parents):
    ages = {"adaptune-ray-long1234": 2, "adaptune-ray-just1234": 0, "someone-elses": 2}
    for name, days in ages.items():
        (parents[0] / name).mkdir()
        then = (parents[0] / name).stat().st_mtime - days * 86_400
        os.utime(parents[0] / name, (then, then))
    alive = PrivateFolder(deepest_socket=SOCKET)
    os.utime(alive.path, (0, 0))
    PrivateFolder(deepest_socket=SOCKET).remove()
    left = {folder.name for folder in parents[0].iterdir()}
    assert left == {"adaptune-ray-just1234", "someone-elses", alive.path.name}
    alive.remove()


def test_a_user_has_one_folder_of_a_name(temporary):
    folder = own_folder("cache")
    assert folder.parent == temporary
    assert mode_of(folder) == 0o700
    assert own_folder("cache") == folder


def test_a_folder_of_ours_that_others_could_read_is_closed(temporary):
    own_folder("cache").chmod(0o755)
    assert mode_of(own_folder("cache")) == 0o700


def test_a_link_in_the_place_of_our_folder_is_not_followed(temporary):
    victim = temporary / "victim"
    victim.mkdir()
    (temporary / f"adaptune-cache-{os.getuid()}").symlink_to(victim)
    with pytest.raises(PermissionError, match="not a folder of ours"):
        own_folder("cache")


def test_a_folder_that_others_may_have_filled_is_refused(temporary):
    own_folder("cache").chmod(0o777)
    with pytest.raises(PermissionError, match="can be changed by other users"):
        own_folder("cache")


def test_a_folder_of_another_user_is_refused(temporary, monkeypatch):
    folder = own_folder("cache")
    planted = folder.with_name(f"adaptune-cache-{os.getuid() + 1}")
    folder.rename(planted)
    mine = os.getuid()
    monkeypatch.setattr(private.os, "getuid", lambda: mine + 1)
    with pytest.raises(PermissionError, match="can be changed by other users"):
        own_folder("cache")


def test_a_folder_below_one_that_others_can_change_is_refused(temporary):
    (temporary / "below").mkdir(mode=0o700)
    own_folder("cache", temporary / "below")
    temporary.chmod(0o777)
    with pytest.raises(PermissionError, match="can be changed by other users"):
        own_folder("cache", temporary / "below")


def test_a_folder_whose_parent_others_can_change_is_refused(temporary):
    temporary.chmod(0o777)
    with pytest.raises(PermissionError, match="can be changed by other users"):
        own_folder("cache")


@pytest.fixture
def homeless(monkeypatch, temporary):
    """A user without HOME and without an entry in the list of users."""

    def refuse(_):
        raise KeyError

    monkeypatch.setenv("HOME", "")  # put back at the end, whatever the test sets
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", refuse)
    return temporary


def test_a_user_without_a_home_gets_one(homeless):
    ensure_home()
    assert Path.home().parent == homeless
    assert mode_of(Path.home()) == 0o700


@pytest.mark.integration
def test_a_program_of_a_user_without_a_home_can_import_what_a_search_needs(tmp_path):
    program = """
import os, pwd
def refuse(_): raise KeyError
pwd.getpwuid = refuse
from search import run
print(os.environ["HOME"])
"""
    environment = {key: value for key, value in os.environ.items() if key != "HOME"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{tmp_path}/adaptune-home-{os.getuid()}\n", "")


def test_a_home_that_was_planted_is_refused_with_what_to_set(homeless):
    (homeless / f"adaptune-home-{os.getuid()}").symlink_to(homeless)
    with pytest.raises(UserError, match="Set HOME"):
        ensure_home()


def test_a_user_with_a_home_keeps_it(monkeypatch):
    monkeypatch.setenv("HOME", "/some/where")
    ensure_home()
    assert os.environ["HOME"] == "/some/where"
