"""Validation sets that can choose, cut or given; and rows that are on two sides."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import make

from pipelines.errors import InputError
from pipelines.tasks.cuts import cut_strata
from pipelines.tasks.rows import read_task
from pipelines.tasks.task import SplitRule


def rows(**sizes):
    labels = [label for label, size in sizes.items() for _ in range(size)]
    return [(f"row {number}", label) for number, label in enumerate(labels)]


def classes(data, split):
    return dict(Counter(data.labels[label] for label in getattr(data, split).labels))


def cut(tmp_path, **sizes):
    return read_task(make(tmp_path, rows(**sizes), None, None))


# Cuts


def test_a_rare_class_has_a_row_in_validation_and_test_where_it_has_three(tmp_path):
    data = cut(tmp_path, common=96, rare=4)
    assert classes(data, "validation") == classes(data, "test") == {"common": 9, "rare": 1}


def test_of_two_rows_one_is_for_training_and_one_for_validation(tmp_path):
    data = cut(tmp_path, common=97, rare=3, rarest=2)
    assert classes(data, "train")["rarest"] == classes(data, "validation")["rarest"] == 1
    assert "rarest" not in classes(data, "test")
    assert data.notes[-1] == "test: no row of 1 of 3 classes: 'rarest'"


def test_a_class_of_one_row_is_trained_and_said_to_be_missing_elsewhere(tmp_path):
    data = cut(tmp_path, common=50, other=50, rare=1)
    assert classes(data, "train")["rare"] == 1
    assert data.notes[-2:] == (
        "validation: no row of 1 of 3 classes: 'rare'",
        "test: no row of 1 of 3 classes: 'rare'",
    )


def test_a_cut_too_small_for_all_classes_has_the_large_ones_and_says_which_it_lacks(tmp_path):
    data = cut(tmp_path, **{f"c{number}": 40 - number for number in range(5)}, **{"d": 3, "e": 3})
    assert len(classes(data, "validation")) == 7
    small = read_task(
        make(tmp_path, rows(a=20, b=20, c=10, d=5), None, None), split=SplitRule(validation=0.02)
    )
    assert classes(small, "validation") == {"a": 1, "b": 1}
    assert "validation: no row of 2 of 4 classes: 'c', 'd'" in small.notes


def proportional(strata, count, most):
    """Shares by the largest remainders, within the bounds: what every cut was before rare classes counted."""
    sizes = np.array([len(stratum) for stratum in strata])
    exact = count * sizes / sizes.sum()
    shares = np.clip(np.floor(exact).astype(int), 0, most)
    while shares.sum() != count:
        step = 1 if shares.sum() < count else -1
        is_open = shares < most if step == 1 else shares > 0
        if not is_open.any():
            break
        shares[np.argmax(np.where(is_open, step * (exact - shares), -np.inf))] += step
    return shares


@given(
    sizes=st.lists(st.integers(1, 60), min_size=2, max_size=8),
    counts=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    seed=st.integers(0, 100),
)
def test_a_cut_that_lacks_no_class_is_the_cut_it_always_was(sizes, counts, seed):
    strata = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    generator = np.random.default_rng(seed)
    left = [generator.permutation(stratum) for stratum in strata]
    expected, is_fine = {}, True
    for name, count in zip(("test", "validation"), counts, strict=True):
        most = np.array([len(stratum) - 1 for stratum in left])
        shares = proportional(strata, count, most)
        is_fine &= bool(np.all(shares > 0))
        expected[name] = sorted(row for s, n in zip(left, shares, strict=True) for row in s[:n])
        left = [stratum[share:] for stratum, share in zip(left, shares, strict=True)]
    if is_fine:
        wanted = dict(zip(("test", "validation"), counts, strict=True))
        got = cut_strata(strata, wanted, seed, stratified=True).rows
        assert {name: chosen.tolist() for name, chosen in got.items()} == expected


# Sets that can choose nothing


def refusal(task, split=None):
    with pytest.raises(InputError) as caught:
        read_task(task, split=split)
    return str(caught.value)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews"])
def test_a_validation_set_of_one_class_is_refused(tmp_path, metric):
    one_class = [(f"v {number}", "a") for number in range(9)]
    task = make(tmp_path, rows(a=9, b=9), one_class, rows(a=2, b=2), metric=metric)
    assert refusal(task) == (
        "mood.validation = 9: holds one class only ('a' of 2): it can choose no trial. Give a validation set "
        "with more of them, or cut a larger one (split.validation, limit.validation)."
    )


def test_a_limit_that_leaves_validation_one_class_is_refused(tmp_path):
    task = make(tmp_path, rows(a=9, b=9), rows(a=9, b=1), rows(a=2, b=2), limit={"validation": 1})
    assert "holds one class only" in refusal(task)


def test_a_validation_set_without_the_class_that_f1_is_about_is_refused(tmp_path):
    given = {"metric": "f1", "positive": "c"}
    task = make(tmp_path, rows(a=9, b=9, c=1), rows(a=3, b=3), rows(a=2, b=2), **given)
    assert "holds no row of 'c', which f1 is about: every trial would score 0. Give" in refusal(task)


def test_a_test_set_of_one_class_is_said_and_not_refused(tmp_path):
    data = read_task(make(tmp_path, rows(a=9, b=9), rows(a=3, b=3), [("t", "a")]))
    assert data.notes[-1] == "test: no row of 1 of 2 classes: 'b'"


def test_numbers_that_are_all_one_after_a_cut_or_a_limit_are_refused(tmp_path):
    numbers = [(f"row {number}", 1 + (number == 0)) for number in range(30)]
    spread = [(f"v {number}", number) for number in range(9)]
    task = make(tmp_path, numbers, None, spread, kind="regression")
    assert "its labels are all 1: nothing can be chosen by them" in refusal(task)
    limited = make(tmp_path, spread, numbers, spread, kind="regression", limit={"train": 1})
    assert "nothing can be learned by them. Use more rows of train (limit.train)." in refusal(limited)


# Rows on two sides


def test_training_rows_that_are_in_another_split_again_are_counted(tmp_path):
    train = rows(a=9, b=9)
    data = read_task(make(tmp_path, train, [*train[:3], ("x", "b")], [*train[9:11], ("y", "a")]))
    assert data.notes == (
        "train: 3 of 18 rows are in validation again, word for word",
        "train: 2 of 18 rows are in test again, word for word",
    )
