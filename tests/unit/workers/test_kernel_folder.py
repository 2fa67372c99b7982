"""Where compiled kernels are kept: code, in a folder that nobody else can write to."""

import importlib.util
import os
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from search.storage import Storage
from search.workers.context import keep_kernels


@pytest.fixture(autouse=True)
def _gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "machine"))
    (tmp_path / "machine").mkdir()
    monkeypatch.setenv("TRITON_CACHE_DIR", "")
    monkeypatch.setenv("TRITON_CACHE_MANAGER", "")


def context(storage, *, gpu=True, compiles=True):
    return SimpleNamespace(gpu=gpu, compiles=compiles, storage=Storage(storage))


def kept():
    return Path(os.environ["TRITON_CACHE_DIR"])


def test_kernels_are_kept_beside_the_storage_s_caches_in_a_closed_folder(tmp_path):
    assert keep_kernels(context(str(tmp_path / "runs")))
    folder = kept()
    assert folder.parent == tmp_path / "runs" / "cache"
    assert folder.name.startswith("adaptune-kernels-")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_another_gpu_or_torch_has_a_folder_of_its_own(tmp_path, monkeypatch):
    folders = set()
    for name, version in (("a GPU", "2.13.0"), ("another GPU", "2.13.0"), ("a GPU", "2.14.0")):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name=name: name)
        monkeypatch.setattr(torch, "__version__", version)
        keep_kernels(context(str(tmp_path / "runs")))
        folders.add(kept())
    assert len(folders) == 3


def test_a_second_worker_has_the_same_folder_and_what_is_in_it(tmp_path):
    for _ in range(2):
        assert keep_kernels(context(str(tmp_path / "runs")))
        with (kept() / "kernel").open("a") as file:
            file.write("x")
    assert (kept() / "kernel").read_text() == "xx"


def test_two_workers_that_make_the_folder_at_once_both_have_it(tmp_path):
    runs = context(str(tmp_path / "runs"))
    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(keep_kernels, [runs] * 64))
    assert [folder.name for folder in (tmp_path / "runs" / "cache").iterdir()] == [kept().name]


def test_triton_is_told_to_believe_whole_files_only(tmp_path):
    keep_kernels(context(str(tmp_path / "runs")))
    module, _, name = os.environ["TRITON_CACHE_MANAGER"].partition(":")
    found = importlib.util.find_spec(module)
    assert f"class {name}(FileCacheManager)" in Path(found.origin).read_text(encoding="utf-8")


def test_a_storage_that_others_can_rename_folders_in_keeps_none(tmp_path, logged):
    """They could put a folder of theirs in the place of `cache/` later."""
    (tmp_path / "runs" / "cache").mkdir(parents=True)
    (tmp_path / "runs").chmod(0o770)
    assert keep_kernels(context(str(tmp_path / "runs")))
    assert kept().parent == tmp_path / "machine"
    assert "kept on this machine, not in the storage" in logged[0]
    assert "can be changed by other users" in logged[0]


def test_a_storage_that_cannot_be_written_to_keeps_none(tmp_path, logged):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "cache").write_text("")
    assert keep_kernels(context(str(tmp_path / "runs")))
    assert kept().parent == tmp_path / "machine"
    assert "kept on this machine, not in the storage" in logged[0]


def test_where_there_is_no_safe_folder_trials_go_without_kernels(tmp_path, logged):
    (tmp_path / "machine").chmod(0o777)
    assert not keep_kernels(context("s3://bucket/runs"))
    assert os.environ["TRITON_CACHE_DIR"] == ""
    assert "without compiled kernels on this machine, slower" in logged[0]
    assert "can be changed by other users" in logged[0]


@pytest.mark.parametrize("mode", ["link", "open"])
def test_a_folder_that_others_planted_or_can_write_to_is_not_used(tmp_path, mode, logged):
    keep_kernels(context(str(tmp_path / "runs")))
    folder = kept()
    folder.rename(tmp_path / "before")
    (tmp_path / "theirs").mkdir()
    if mode == "link":
        folder.symlink_to(tmp_path / "theirs")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    keep_kernels(context(str(tmp_path / "runs")))
    assert tmp_path / "runs" not in kept().parents
    assert str(folder) in logged[0]


@pytest.mark.parametrize("changes", [{"gpu": False}, {"compiles": False}])
def test_without_a_gpu_or_where_the_job_says_off_there_is_none(tmp_path, changes):
    assert not keep_kernels(context(str(tmp_path / "runs"), **changes))
    assert not (tmp_path / "runs" / "cache").exists()
