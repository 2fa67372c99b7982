"""Trials in packs under Ray Tune: as in workers of their own, and none is lost with its host."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from jobs import write_job

from search import SearchJob, Storage, run
from search.progress import Progress
from search.study import Record

pytestmark = pytest.mark.integration
MARK = "ADAPTUNE_TEST_PACKING"
SPACE = {"adapter_size": [2, 4, 8, 16], "learning_rate": [1e-3, 3e-3, 1e-2], "epochs": [2, 4]}


class Hosts(Progress):
    """What a search told of its hosts."""

    def __init__(self):
        self.told = []

    def hosts(self, states):
        self.told += states


def search(folder: Path, progress=None, **changes):
    """Run a small job; its study's trials by configuration."""
    job = SearchJob.load(
        write_job(
            folder,
            space=SPACE,
            search={"trials": 7, "sampler": "grid", "scheduler": "none"},
            precision="fp32",  # in bf16 the order of sums shows
            **changes,
        ),
        storage=str(folder / "runs"),
    )
    results = run(job, progress=progress)
    with Record(Storage(str(folder / "runs"))) as record:
        trials = record.studies("topics")[0].trials()
    assert results["state"] == "finished"
    assert [trial.reason for trial in trials if trial.state != "complete"] == []
    assert results["tasks"][0]["trials"]["complete"] == len(trials) == 7
    return {tuple(sorted(trial.params.items())): trial for trial in trials}, results


def scores(trials):
    return {key: [epoch.scores for epoch in trial.epochs] for key, trial in trials.items()}


def losses(trials):
    return [epoch.train_loss for key in sorted(trials) for epoch in trials[key].epochs]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return search(tmp_path_factory.mktemp("alone"))


def test_a_search_in_packs_of_three_finds_what_a_search_one_by_one_finds(tmp_path, alone):
    hosts = Hosts()
    packed, results = search(tmp_path, hosts, resources={"pack": 3})
    assert {(state.capacity, state.node) for state in hosts.told} == {(3, os.uname().nodename)}
    assert max(sum(state.packs) for state in hosts.told) <= 3
    assert scores(packed) == scores(alone[0])
    assert losses(packed) == pytest.approx(losses(alone[0]), rel=1e-4)
    assert results["tasks"][0]["best"]["params"] == alone[1]["tasks"][0]["best"]["params"]
    assert Path(results["tasks"][0]["best"]["bundle"], "adapter.safetensors").is_file()


def find_hosts(mark: str) -> list[int]:
    """The processes of hosts that have inherited a mark in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_host = b"PackHost" in (entry / "cmdline").read_bytes()
            if is_host and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def test_when_a_host_dies_its_trials_go_on_from_their_checkpoints(tmp_path, alone, monkeypatch):
    monkeypatch.setenv(MARK, str(tmp_path))
    killed = []

    def kill_host():
        """Once trials have a checkpoint, so that there is something to go on from."""
        deadline = time.monotonic() + 100
        while not killed and time.monotonic() < deadline:
            if len(list(tmp_path.glob("runs/topics/checkpoints/topics/adapter/*.safetensors"))) >= 2:
                for host in find_hosts(str(tmp_path)):
                    killed.append(host)
                    os.kill(host, signal.SIGKILL)
            time.sleep(0.02)

    thread = threading.Thread(target=kill_host)
    thread.start()
    packed, _ = search(tmp_path, resources={"pack": 3})
    thread.join()
    assert len(killed) == 1
    assert scores(packed) == scores(alone[0])
    assert losses(packed) == pytest.approx(losses(alone[0]), rel=1e-4)
