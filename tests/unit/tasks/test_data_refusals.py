"""Rows that cannot be used, and what is said of them."""

import dataclasses
from pathlib import Path

import pytest
from rows import ROWS, make, write

from pipelines.errors import InputError, InputErrors
from pipelines.tasks.rows import read_task
from pipelines.tasks.task import Files, Task


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        (
            {"validation": [("", "pos"), ("fine", "neg"), (" \n", "pos"), (None, "neg")]},
            "mood.files.validation",
            "3 of 4 rows have no text ('text'): rows 1, 3, 4. Fill in or remove these rows.",
        ),
        (
            {"train": [("", "pos")] * 9},
            "mood.files.train",
            "9 of 9 rows have no text ('text'): rows 1, 2, 3, 4, 5 and 4 more. Fill in",
        ),
        (
            {"train": [("fine", None), *ROWS]},
            "mood.files.train",
            "1 of 21 rows have no label ('label'): row 1. Fill in or remove these rows.",
        ),
        (
            {"train": [("fine", "pos")] * 3, "validation": [("x", "pos")], "test": [("x", "pos")]},
            "mood.label",
            "every row of train is 'pos'. Add rows of another class, or name another column.",
        ),
        (
            {"test": [*ROWS, ("x", "odd"), ("y", "odd")]},
            "mood.label",
            "class 'odd' has 2 rows in test and none in train. Add rows of it to train, or remove these.",
        ),
        (
            {"metric": "f1", "positive": "post"},
            "mood.positive",
            "not one of the labels. Did you mean 'pos'?",
        ),
        (
            {"kind": "regression", "train": [("x", 1), ("y", "many"), ("z", "nan"), ("w", 2)]},
            "mood.files.train",
            "2 labels are not finite numbers, as 'many': rows 2, 3. Correct these rows, or make it a classif",
        ),
        (
            {"kind": "regression", "train": [("x", 1), ("y", 1.0)]},
            "mood.files.train",
            "all 2 labels are 1. A regression needs labels that differ: name another column.",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_refused(tmp_path, changes, key, message):
    if changes.get("kind") == "regression":
        changes = {"validation": [("x", 1), ("y", 2)], "test": [("x", 1), ("y", 2)], **changes}
    with pytest.raises(InputError) as caught:
        read_task(make(tmp_path, **changes))
    assert caught.value.key == key
    assert message in str(caught.value)


def test_a_split_without_rows_is_refused(tmp_path):
    files = Files(train=write(tmp_path / "train.jsonl", ROWS), test=str(tmp_path / "test.csv"))
    Path(files.test).write_text("text,label\n")
    with pytest.raises(
        InputError, match=r"mood.files.test = .*test.csv': holds no rows. Add rows, or leave the sp"
    ):
        read_task(Task(name="mood", text=("text",), files=files))


def test_all_that_is_wrong_with_a_task_s_rows_is_reported_together(tmp_path):
    task = make(tmp_path, train=[("", None), *ROWS], validation=[(" ", "pos")])
    files = dataclasses.replace(task.files, test=str(tmp_path / "tset.jsonl"))
    with pytest.raises(InputErrors) as caught:
        read_task(dataclasses.replace(task, files=files))
    keys = [problem.key for problem in caught.value.problems]
    assert keys == ["mood.files.test", "mood.files.train", "mood.files.train", "mood.files.validation"]
    assert "tset.jsonl': no such file. Did you mean 'test.jsonl'?" in str(caught.value)


def test_all_that_is_wrong_with_a_task_s_classes_is_reported_together(tmp_path):
    task = make(tmp_path, validation=[("x", "odd")], test=[("x", "even")], metric="f1", positive="postive")
    with pytest.raises(InputErrors) as caught:
        read_task(task)
    rules = [problem.rule for problem in caught.value.problems]
    assert rules == [
        "class 'odd' has 1 rows in validation and none in train",
        "class 'even' has 1 rows in test and none in train",
        "not one of the labels",
    ]
