"""The shape that others rely on, and what `export` takes away."""

import json
import os
import socket
import time

import optuna
import pytest
import torch
from studies import BACKBONE_PARAMETERS, SPACE, add, create, epochs, note_winner, opened, start

from pipelines.bundle import read_bundle, write_bundle
from pipelines.bundle_files import BundleConfig
from pipelines.config import TrainConfig
from pipelines.errors import BundleError
from search.errors import UserError
from search.record import Baseline, Driver, Intervals, Leader, Leaders
from search.results import (
    export_bundles,
    find_job,
    is_finished,
    job_results,
    open_record,
    read_results,
    select_task,
)
from search.storage import Storage, bundle_key

COUNTS = {"complete", "pruned", "failed", "running", "paused"}


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path / "runs"))


@pytest.fixture
def record(tmp_path):
    with opened(tmp_path / "runs") as record:
        yield record


def win(study, storage, number=0, *, task=None):
    """Make a trial the winner, as the end of a search does, with a real bundle."""
    key = bundle_key(study.job, study.task, study.method)
    config = BundleConfig(
        backbone="tiny",
        backbone_fingerprint="0" * 64,
        task=task or study.task,
        kind="classification",
        text_columns=("text",),
        labels=("no", "yes"),
        pooling="cls",
        max_tokens=16,
        train=TrainConfig(),
    )
    parameters = {"head.weight": torch.zeros(2, 4)}
    write_bundle(storage.path(key), config, parameters, metrics={"test": {"accuracy": 0.5}}, card="# card")
    note_winner(study, number)


def drive(study):
    study.note_driver(Driver(socket.gethostname(), os.getpid(), time.time()))


def task_of(record, storage, place=0):
    return job_results(record.studies("job"), storage)["tasks"][place]


def test_a_finished_job_has_the_documented_shape(record, storage):
    study = create(record)
    number = add(study, [0.5, 0.75], trained=250)
    study.note_mlflow_run("abc")
    win(study, storage)
    trial = study.trials()[number]
    assert job_results(record.studies("job"), storage) == {
        "job": "job",
        "state": "finished",
        "tasks": [
            {
                "task": "task",
                "method": "adapter",
                "metric": "accuracy",
                "state": "finished",
                "reason": None,
                "trials": {"complete": 1, "pruned": 0, "failed": 0, "running": 0, "paused": 0},
                "retries": [],
                "confirmations": [],
                "front": None,
                "seconds": 1.0,
                "best": {
                    "trial": 0,
                    "params": trial.params,
                    "seed": 0,
                    "validation": 0.75,
                    "test": 0.5,
                    "also": {},
                    "interval": None,
                    "seeds": None,
                    "refit": None,
                    "trained_parameters": 250,
                    "trained_fraction": 250 / BACKBONE_PARAMETERS,
                    "mlflow_run_id": "abc",
                    "bundle": f"{storage.root}/job/bundles/task/adapter",
                },
                "baseline": None,
                "folds": None,
                "leaders": [],
            }
        ],
    }


def test_leading_configurations_have_their_seeds_mean_and_whether_they_can_be_told_apart(record, storage):
    study = create(record)
    add(study, [0.8])
    add(study, [0.7])
    note_winner(
        study, 0, leaders=(Leader(0, (0, 1), 0.75, told_apart=False), Leader(1, (0,), 0.7, told_apart=True))
    )
    found = task_of(record, storage)["leaders"]
    params = [trial.params for trial in study.trials()]
    assert found == [
        {"trial": 0, "params": params[0], "seeds": [0, 1], "mean": 0.75, "told_apart": False},
        {"trial": 1, "params": params[1], "seeds": [0], "mean": 0.7, "told_apart": True},
    ]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_best_so_far_of_a_search_whose_leaders_are_run_again_has_the_best_mean(record, storage):
    study = create(record)
    for score in (0.9, 0.8):
        add(study, [score])
    study.note_leaders(Leaders((0, 1), epochs=99))
    for number, score in ((0, 0.5), (1, 0.79)):
        again = study.start_trial(study.trial(number).params, SPACE.distributions(), seed=1, confirms=number)
        study.record_epochs(again, epochs([score]))
        study.finish_trial(again, "complete")
    best = task_of(record, storage)["best"]
    assert (best["trial"], best["validation"]) == (1, 0.8)
    assert best["params"] == study.trial(1).params


def test_results_are_the_same_after_json(record, storage):
    study = create(record)
    add(study, [0.5])
    found = job_results(record.studies("job"), storage)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_counts_are_disjoint_and_cover_every_trial(record, storage):
    study = create(record)
    add(study, [0.5])
    add(study, [0.6])
    add(study, [0.2], "pruned", reason="below the median")
    add(study, [0.9], "failed", reason="OutOfMemoryError: no room")
    start(study)
    counts = task_of(record, storage)["trials"]
    assert counts == {"complete": 2, "pruned": 1, "failed": 1, "running": 1, "paused": 0}
    assert set(counts) == COUNTS
    assert sum(counts.values()) == len(study.trials())


def test_before_the_end_the_best_so_far_has_no_test_score_and_no_bundle(record, storage):
    study = create(record)
    add(study, [0.5])
    add(study, [0.8])
    add(study, [0.99], "failed", reason="OutOfMemoryError: no room")
    best = task_of(record, storage)["best"]
    assert (best["trial"], best["validation"]) == (1, 0.8)
    assert (best["test"], best["bundle"], best["mlflow_run_id"]) == (None, None, None)


def test_a_winners_scores_on_further_sets_stand_beside_its_test_score(record, storage):
    study = create(record)
    add(study, [0.8])
    scores = {
        "test": {"accuracy": 0.7, "f1": 0.6},
        "also": {"validation_mismatched": {"accuracy": 0.65, "f1": 0.5}},
    }
    note_winner(study, 0, **scores)
    best = task_of(record, storage)["best"]
    assert best["test"] == 0.7
    assert best["also"] == {"validation_mismatched": 0.65}


def test_without_a_complete_trial_there_is_no_best(record, storage):
    add(create(record), [0.4], "running")
    assert task_of(record, storage)["best"] is None


def test_a_job_is_running_while_its_driver_lives_and_interrupted_after(record, storage):
    study = create(record)
    add(study, [0.5])
    drive(study)
    assert job_results(record.studies("job"), storage)["state"] == "running"
    study.note_driver(None)
    found = job_results(record.studies("job"), storage)
    assert (found["state"], found["tasks"][0]["state"]) == ("interrupted", "interrupted")


def test_a_study_without_a_winner_is_failed_and_says_why(record, storage):
    study = create(record)
    add(study, [], "failed", reason="OutOfMemoryError: no room")
    study.fail("no trial of 1 ended well: OutOfMemoryError: no room")
    found = job_results(record.studies("job"), storage)
    assert (found["state"], found["tasks"][0]["state"]) == ("failed", "failed")
    assert "no room" in found["tasks"][0]["reason"]
    assert is_finished(record.studies("job"))


@pytest.mark.parametrize(
    ("alive", "ends", "state"),
    [
        (True, ("winner", None), "running"),
        (False, ("winner", None), "interrupted"),
        (False, ("failure", None), "interrupted"),
        (False, ("winner", "failure"), "failed"),
        (False, ("winner", "winner"), "finished"),
        (True, ("winner", "winner"), "finished"),
    ],
)
def test_a_job_is_as_far_as_the_least_of_its_studies(record, storage, alive, ends, state):
    for position, end in enumerate(ends):
        study = create(record, f"job/task{position}/adapter", position=position)
        add(study, [0.5])
        if end == "winner":
            win(study, storage)
        elif end == "failure":
            study.fail("no trial of 1 ended well")
    studies = record.studies("job")
    if alive:
        drive(studies[0])
    assert job_results(studies, storage)["state"] == state
    assert is_finished(studies) is (None not in ends)


def test_tasks_come_in_the_order_of_the_job(record, storage):
    for position, name in enumerate(("z", "a", "m")):
        create(record, f"job/{name}/adapter", position=position)
    found = job_results(record.studies("job"), storage)
    assert [entry["task"] for entry in found["tasks"]] == ["z", "a", "m"]


def test_reading_results_changes_nothing(record, storage, tmp_path):
    add(create(record), [0.5])
    record.close()
    before = (tmp_path / "runs" / "studies.db").read_bytes()
    read_results("job", storage)
    assert (tmp_path / "runs" / "studies.db").read_bytes() == before


def test_an_unknown_job_is_refused_with_those_that_there_are(record, storage):
    create(record, "spam/a/adapter")
    create(record, "tickets/a/adapter")
    with pytest.raises(UserError, match=r"no job 'spm' .*Jobs there: spam, tickets"):
        read_results("spm", storage)


def test_a_job_whose_making_was_cut_short_is_not_found(record, storage):
    optuna.create_study(study_name="job/task/adapter", storage=record._storage)
    with pytest.raises(UserError, match="no job 'job'"):
        find_job(record, "job", storage)


def test_a_folder_without_jobs_is_refused_and_stays_as_it_is(tmp_path):
    with pytest.raises(UserError, match=r"has no studies\.db.*--storage"):
        open_record(Storage(str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_task_is_refused_with_those_that_there_are(record, storage):
    create(record, "job/a/adapter")
    create(record, "job/b/adapter", position=1)
    found = job_results(record.studies("job"), storage)
    assert [entry["task"] for entry in select_task(found, "b")["tasks"]] == ["b"]
    assert select_task(found, None) == found
    with pytest.raises(UserError, match=r"no task 'c'. Its tasks: a, b"):
        select_task(found, "c")


@pytest.fixture
def two_methods(record, storage):
    """One task searched with two methods, of which the second is better, and another task."""
    for position, (name, score) in enumerate(
        (("a/adapter", 0.7), ("a/fine_tune", 0.8), ("b/adapter", -0.1), ("b/fine_tune", -0.2))
    ):
        study = create(record, f"job/{name}", position=position)
        add(study, [score])
        win(study, storage, task=name)
    return record


def export(record, storage, out, task=None):
    return export_bundles(job_results(record.studies("job"), storage), out, task=task, fetch=storage.fetch)


def test_export_takes_the_better_method_of_each_task(two_methods, storage, tmp_path):
    folders = export(two_methods, storage, tmp_path / "out")
    assert folders == {"a": tmp_path / "out" / "a", "b": tmp_path / "out" / "b"}
    assert read_bundle(folders["a"])[0].task == "a/fine_tune"
    assert read_bundle(folders["b"])[0].task == "b/adapter"  # scores below zero are scores


@pytest.mark.integration
def test_export_of_one_task_leaves_the_others(two_methods, storage, tmp_path):
    export(two_methods, storage, tmp_path / "out", task="b")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b"]


def test_export_refuses_a_folder_that_is_not_empty_before_it_writes_anything(two_methods, storage, tmp_path):
    (tmp_path / "out" / "b").mkdir(parents=True)
    (tmp_path / "out" / "b" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        export(two_methods, storage, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["b", "notes.txt"]


def test_export_into_an_empty_folder_is_fine(two_methods, storage, tmp_path):
    (tmp_path / "out" / "b").mkdir(parents=True)
    export(two_methods, storage, tmp_path / "out", task="b")
    assert read_bundle(tmp_path / "out" / "b")


def test_export_refuses_a_task_without_a_bundle_and_names_it(record, storage, tmp_path):
    done, open_ = create(record, "job/done/adapter"), create(record, "job/open/adapter", position=1)
    for study in (done, open_):
        add(study, [0.5])
    win(done, storage)
    with pytest.raises(
        UserError, match=r"no bundle yet for open: the job is interrupted.*adaptune resume job"
    ):
        export(record, storage, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert list(export(record, storage, tmp_path / "out", task="done")) == ["done"]


def test_export_refuses_an_unknown_task(two_methods, storage, tmp_path):
    with pytest.raises(UserError, match=r"no task 'c'. Its tasks: a, b"):
        export(two_methods, storage, tmp_path / "out", task="c")


@pytest.mark.parametrize("name", ["../../x", "/abs/x", "a/b"])
def test_export_refuses_a_task_whose_name_is_a_path(two_methods, storage, tmp_path, name):
    results = job_results(two_methods.studies("job"), storage)
    for entry in results["tasks"]:
        entry["task"] = name
    with pytest.raises(UserError, match="has a name that no folder of ours has"):
        export_bundles(results, tmp_path / "out", fetch=storage.fetch)
    assert not (tmp_path / "out").exists()


def test_export_notices_a_bundle_that_was_damaged(two_methods, storage, tmp_path):
    weights = storage.path(bundle_key("job", "b", "adapter")) / "adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BundleError, match="changed or cut short"):
        export(two_methods, storage, tmp_path / "out", task="b")


def test_a_winner_s_intervals_and_its_task_s_baseline_are_lists_and_names(record, storage):
    study = create(record)
    add(study, [0.5])
    found = {"intervals": Intervals((0.4, 0.6), None), "baseline": Baseline("probe", 0.6, 0.5, 0.25)}
    note_winner(study, 0, **found)
    (entry,) = job_results(record.studies("job"), storage)["tasks"]
    assert entry["best"]["interval"] == {"validation": [0.4, 0.6], "test": None, "gain": None}
    assert entry["baseline"] == {"method": "probe", "validation": 0.6, "test": 0.5, "majority": 0.25}
