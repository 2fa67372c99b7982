"""The host of packs, without Ray: what its Tune trials ask of it."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from tiny import config, tiny_backbone, toy_task

import search.workers.hosts
from pipelines.folds import start_training
from pipelines.packs.pack import Pack
from pipelines.packs.training import Training
from search.storage import Storage
from search.workers.assignment import Assignment
from search.workers.capacity import Capacity
from search.workers.context import WorkerContext
from search.workers.hosts import PackHost
from search.workers.reports import HostState, TrialReport


@pytest.fixture
def host(monkeypatch, tmp_path):
    monkeypatch.setattr(search.workers.hosts, "open_backbone", lambda _: tiny_backbone())
    monkeypatch.setattr(search.workers.hosts, "open_cache", lambda _: None)
    monkeypatch.setattr(search.workers.hosts.ray, "get", lambda reference: reference)
    context = WorkerContext(
        job="job",
        storage=Storage(str(tmp_path)),
        backbone=None,
        tasks={"toy": toy_task(rows=32, validation_rows=8)},
        pooling="cls",
        precision="fp32",
        threads=None,
        gpu=False,
        cache=0,
    )
    return PackHost(context, capacity=2)


def in_folds():
    task = toy_task(rows=30)
    return replace(task, validation_targets=task.train_targets).in_folds(np.arange(30) // 2 % 3)


def asked(number=0, *, known=0, epochs=3, **params):
    params = {"adapter_size": 4, "learning_rate": 1e-3, "epochs": epochs, "batch_size": 8, **params}
    return Assignment("toy", "adapter", number, seed=0, params=params, known=known)


@pytest.mark.integration
def test_trials_are_trained_epoch_by_epoch_side_by_side(host):
    with ThreadPoolExecutor(3) as threads:
        for known in range(3):
            answers = threads.map(lambda at, k=known: host.next_epoch(asked(at, known=k), f"v{at}"), range(3))
            for report in map(TrialReport.loads, answers):
                assert report.failure is None
                assert [epoch.epoch for epoch in report.epochs] == list(range(1, known + 2))
                assert report.finished == (known == 2)


def test_a_host_tells_how_many_trials_share_a_pass_and_what_its_gpu_does(host, monkeypatch):
    watts = {"gpu_0_power_usage_watts": 350.0}
    monkeypatch.setattr(search.workers.hosts, "read_gpus", lambda: watts)
    assert host.state() == HostState(capacity=2, packs=(), node=os.uname().nodename, gpus=watts)
    long = [asked(number, epochs=100_000, known=99_000) for number in range(2)]
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(host.next_epoch, trial, "first") for trial in long]
        while host.state().packs != (2,):
            assert not any(one.done() for one in waiting)
        for trial in long:
            host.drop(trial, None)
        for one in waiting:
            one.result(timeout=60)
    while host.state().packs:
        pass


def test_a_worker_that_never_asked_cannot_drop_a_trial(host):
    """Tune may start a second worker for a trial that a first one has taken, and end it again."""
    host.next_epoch(asked(), "first")
    host.drop(asked(), "second")
    report = TrialReport.loads(host.next_epoch(asked(known=1), "first"))
    assert report.failure is None
    assert len(report.epochs) == 2


def test_the_driver_drops_a_trial_that_is_still_waited_for(host):
    """One that takes too long: its worker is killed and says nothing any more."""
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(host.next_epoch, asked(epochs=100_000, known=99_000), "first")
        while not host._guests:
            pass
        host.drop(asked(), None)
        assert "dropped" in TrialReport.loads(waiting.result(timeout=60)).failure
    assert not host._guests


def test_a_dropped_trial_goes_on_from_its_checkpoint(host):
    first = TrialReport.loads(host.next_epoch(asked(), "first"))
    host.drop(asked(), "first")
    second = TrialReport.loads(host.next_epoch(asked(known=1), "second"))
    assert second.failure is None
    assert second.epochs[0] == first.epochs[0]
    assert len(second.epochs) == 2


def test_a_configuration_that_cannot_be_trained_fails_alone(host):
    with ThreadPoolExecutor(2) as threads:
        bad = threads.submit(host.next_epoch, asked(0, dropout=2.0), "bad")
        good = threads.submit(host.next_epoch, asked(1), "good")
        assert "dropout" in TrialReport.loads(bad.result()).failure
        assert TrialReport.loads(good.result()).failure is None


def test_a_host_whose_gpu_is_lost_ends_so_that_ray_starts_another(host, monkeypatch, logged):
    """Its trials would wait for it for ever."""
    codes = []

    def end(code):
        codes.append(code)
        threading.Event().wait()  # nothing runs after it

    def fail(_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(search.workers.hosts.os, "_exit", end)
    monkeypatch.setattr(Pack, "step", fail)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(host.next_epoch, asked(), "first")
        while not codes:
            assert not waiting.done()
        host.drop(asked(), None)
        waiting.result(timeout=60)
    assert codes == [1]
    assert "a host of packs ends, and its trials go on in a new one" in "\n".join(logged)


def test_kernels_that_failed_once_are_not_tried_again_by_a_host(host, monkeypatch):
    host._fused = True
    assert TrialReport.loads(host.next_epoch(asked(), "first")).failure is None
    assert not host._fused  # its pack goes without: there is no GPU


@pytest.mark.integration
@pytest.mark.parametrize("seats", [1, 2, 3, 4])
def test_a_trial_in_folds_is_what_it_is_alone_however_many_of_its_folds_have_a_seat(host, seats):
    host._context.tasks["toy"] = in_folds()
    host._capacity = Capacity(seats)
    given = config(learning_rate=1e-3)
    alone = start_training(
        in_folds(), lambda view: Training(tiny_backbone(), view, given, pooling="cls", precision="fp32")
    )
    with ThreadPoolExecutor(2) as threads:
        for known in range(3):
            answers = threads.map(lambda at, k=known: host.next_epoch(asked(at, known=k), "v"), range(2))
            reports = [TrialReport.loads(answer) for answer in answers]
    expected = [epoch.train_loss for epoch in alone.run()]
    for report in reports:
        assert report.failure is None
        assert report.finished
        assert [epoch.train_loss for epoch in report.epochs] == pytest.approx(expected, rel=1e-4)


@pytest.mark.integration
def test_a_dropped_trial_in_folds_goes_on_from_its_checkpoint(host):
    host._context.tasks["toy"] = in_folds()
    first = TrialReport.loads(host.next_epoch(asked(), "first"))
    host.drop(asked(), "first")
    second = TrialReport.loads(host.next_epoch(asked(known=1), "second"))
    assert second.failure is None
    assert second.epochs[0] == first.epochs[0]
    assert len(second.epochs) == 2


@pytest.mark.integration
def test_a_fold_that_diverges_fails_its_trial(host):
    host._context.tasks["toy"] = in_folds()
    report = TrialReport.loads(host.next_epoch(asked(learning_rate=1e30), "first"))
    assert report.failure.startswith("TrialDiverged")
    while host.state().packs:
        pass


@pytest.mark.integration
def test_a_refit_at_a_host_has_no_score(host):
    report = TrialReport.loads(host.next_epoch(replace(asked(), refit=True), "first"))
    assert report.failure is None
    assert report.epochs[0].scores == {}


def test_a_host_takes_as_many_trials_as_all_of_their_folds_fill_it(host):
    host._context = replace(host._context, folds=5)
    host._capacity = Capacity(8)
    assert host.state().capacity == 2


@pytest.mark.integration
def test_a_proxys_process_has_only_what_ray_tune_imports():
    heavy = {"torch", "transformers", "tokenizers", "datasets", "mlflow", "optuna", "sqlalchemy", "sklearn"}
    code = f"import sys; from search.workers.hosts import PackedTrial; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
