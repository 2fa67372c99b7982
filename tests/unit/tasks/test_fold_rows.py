"""Which rows are in which fold, what stays together, and what is refused."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import ROWS, make

from pipelines.errors import InputError, InputErrors
from pipelines.tasks.cuts import spread_groups, spread_rows
from pipelines.tasks.rows import read_task
from pipelines.tasks.task import Files, SplitRule, Task

MORE = [(f"text {number}", "pos" if number % 3 else "neg") for number in range(30)]


@given(st.lists(st.integers(0, 3), min_size=10, max_size=60), st.integers(2, 5), st.integers(0, 9))
def test_folds_are_alike_in_size_and_in_every_class(labels, count, seed):
    labels = np.array(labels)
    folds = spread_rows([np.flatnonzero(labels == one) for one in np.unique(labels)], count, seed)
    for rows in (np.arange(len(labels)), *(np.flatnonzero(labels == one) for one in np.unique(labels))):
        sizes = np.bincount(folds[rows], minlength=count)
        assert sizes.max() - sizes.min() <= 1


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60), st.integers(0, 9))
def test_a_group_is_in_one_fold_and_no_fold_is_empty(groups, seed):
    labels = np.arange(len(groups)) % 2
    strata = [np.flatnonzero(labels == one) for one in np.unique(labels)]
    count = len(set(groups))
    folds = spread_groups(strata, groups, count, seed)
    assert len({(group, fold) for group, fold in zip(groups, folds.tolist(), strict=True)}) == count
    assert set(folds.tolist()) == set(range(count))


def test_the_rows_of_train_are_in_folds_and_no_validation_set_is_cut(tmp_path):
    data = read_task(make(tmp_path, MORE, None, ROWS), split=SplitRule(folds=5))
    assert data.validation is data.train
    assert len(data.train) == 30
    assert Counter(data.folds.tolist()) == dict.fromkeys(range(5), 6)
    for label in (0, 1):
        assert set(np.bincount(data.folds[data.train.labels == label], minlength=5)) == {(4, 2)[1 - label]}
    assert "30 rows in 5 folds (seed 0, stratified)" in data.notes
    assert data.splits.keys() == {"train", "test"}


def test_the_users_validation_rows_are_in_the_folds_too(tmp_path):
    data = read_task(make(tmp_path, MORE, ROWS, ROWS), split=SplitRule(folds=2))
    assert data.train.texts == tuple((text,) for text, _ in [*MORE, *ROWS])
    assert "validation: its 20 rows are in the folds, beside train's" in data.notes
    assert not any("validation again" in note for note in data.notes)


def test_folds_are_a_function_of_the_seed_and_part_of_what_the_rows_are(tmp_path):
    task = make(tmp_path, MORE, None, ROWS)
    first, again, other = (read_task(task, split=SplitRule(folds=3, seed=seed)) for seed in (0, 0, 1))
    assert (first.folds == again.folds).all()
    assert first.fingerprint == again.fingerprint
    assert not (first.folds == other.folds).all()
    assert first.fingerprint != other.fingerprint


def grouped(folder, rows, *, name="author", validation=None, **changes):
    """Rows of (text, label, group)."""
    for split, known in (("train", rows), ("validation", validation)):
        lines = [
            json.dumps({"text": text, "label": label, name: group}) for text, label, group in known or []
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    (folder / "test.jsonl").write_text(
        "\n".join(json.dumps({"text": text, "label": label}) for text, label in ROWS)
    )
    files = Files(
        train=str(folder / "train.jsonl"),
        validation=str(folder / "validation.jsonl") if validation else None,
        test=str(folder / "test.jsonl"),
    )
    return Task(**{"name": "mood", "text": ("text",), "files": files, "group": "author", **changes})


BY_AUTHOR = [
    (f"text {number}", "pos" if number % 2 else "neg", f"author {number // 5}") for number in range(40)
]


def authors(data, rows):
    return {data.train.groups[row] for row in rows}


def test_rows_of_one_group_are_never_on_both_sides_of_a_fold(tmp_path):
    data = read_task(grouped(tmp_path, BY_AUTHOR), split=SplitRule(folds=4))
    for fold in range(4):
        inside, outside = np.flatnonzero(data.folds == fold), np.flatnonzero(data.folds != fold)
        assert authors(data, inside)
        assert not authors(data, inside) & authors(data, outside)


def test_a_group_in_train_and_validation_is_one_group(tmp_path):
    task = grouped(tmp_path, BY_AUTHOR, validation=[("more", "pos", "author 0")])
    data = read_task(task, split=SplitRule(folds=4))
    assert data.folds[-1] == data.folds[0]


def test_rows_of_one_group_are_never_on_both_sides_of_a_cut(tmp_path):
    data = read_task(grouped(tmp_path, BY_AUTHOR), split=SplitRule(validation=0.25))
    assert len(data.validation) == 10
    assert not set(data.validation.groups) & set(data.train.groups)
    assert "validation: 10 of 40 rows cut from train (seed 0, by group)" in data.notes


def test_groups_that_nothing_is_cut_by_are_told_of(tmp_path):
    task = grouped(tmp_path, BY_AUTHOR, validation=BY_AUTHOR)
    assert "nothing is cut from train: no groups ('author') are kept together" in read_task(task).notes


def test_texts_can_be_their_own_groups(tmp_path):
    twice = [(f"text {number % 15}", "pos" if number % 2 else "neg", "x") for number in range(30)]
    data = read_task(grouped(tmp_path, twice, group="text"), split=SplitRule(folds=3))
    folds = {}
    for (text,), fold in zip(data.train.texts, data.folds.tolist(), strict=True):
        assert folds.setdefault(text, fold) == fold


def refusal(task, **rule):
    with pytest.raises((InputError, InputErrors)) as raised:
        read_task(task, split=SplitRule(**rule))
    return str(raised.value)


def test_more_folds_than_the_rarest_class_has_rows_are_refused(tmp_path):
    rows = [*MORE, ("x", "odd"), ("y", "odd"), ("z", "odd")]
    said = refusal(make(tmp_path, rows, None, ROWS), folds=5)
    assert "split.folds = 5: mood: the rarest class has 3 rows: a fold would be without" in said
    assert "Write 3, or add rows." in said


def test_one_fold_is_refused():
    with pytest.raises(InputErrors, match="needs 2 or more: each fold is predicted by a model of the others"):
        SplitRule(folds=1, seed=-1)


def test_groups_that_leave_a_fold_empty_are_refused(tmp_path):
    said = refusal(grouped(tmp_path, BY_AUTHOR), folds=9)
    assert "mood: the column has 8 groups: a fold would be without" in said
    assert "Write folds: 8, or name another column." in said


def test_a_class_that_one_fold_has_alone_is_refused(tmp_path):
    rows = [(text, "odd" if author == "author 0" else label, author) for text, label, author in BY_AUTHOR]
    assert "all rows of a class are in one fold" in refusal(grouped(tmp_path, rows), folds=4)


def test_a_group_column_that_is_not_there_is_refused_with_the_nearest_name(tmp_path):
    said = refusal(grouped(tmp_path, BY_AUTHOR, name="autor"), folds=2)
    assert "split.group = 'author': no such column in" in said
    assert "'autor'" in said


def test_rows_without_a_group_are_named(tmp_path):
    rows = [*BY_AUTHOR, ("more", "pos", ""), ("and more", "neg", None)]
    said = refusal(grouped(tmp_path, rows), folds=2)
    assert "2 of 42 rows have no group ('author'): rows 41, 42" in said


def test_a_folder_a_class_has_no_groups(tmp_path):
    for label in ("neg", "pos"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.txt").write_text("x")
    task = Task(name="mood", text=("text",), files=Files(train=str(tmp_path)), group="author")
    assert "is a folder per class, whose texts have no columns" in refusal(task)


@pytest.mark.parametrize(
    ("rule", "group", "said"),
    [
        ({"folds": 5}, None, "asks for spans, whose rows are not put into folds"),
        ({}, "title", "asks for spans: these are cut by whole articles"),
    ],
)
def test_spans_have_neither_folds_nor_groups(rule, group, said):
    task = Task(name="squad", kind="span", text=("question", "context"), label="answers_text", group=group)
    assert said in refusal(task, **rule)
