"""Where compiled kernels are kept: code, in a folder that nobody else can write to."""

import os
import stat
import tempfile
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


@pytest.mark.parametrize("mode", ["link", "open"])
def test_a_folder_that_others_planted_or_can_write_to_is_not_used(tmp_path, mode):
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


@pytest.mark.parametrize("changes", [{"gpu": False}, {"compiles": False}])
def test_without_a_gpu_or_where_the_job_says_off_there_is_none(tmp_path, changes):
    assert not keep_kernels(context(str(tmp_path / "runs"), **changes))
    assert not (tmp_path / "runs" / "cache").exists()
