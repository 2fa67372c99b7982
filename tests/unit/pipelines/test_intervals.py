"""Intervals of scores: they hold what they say, are paired where two models are compared, and never guess."""

import numpy as np
import pytest
from scipy.stats import binom

from pipelines.intervals import score_interval


def accuracy(right):
    right = np.asarray(right, dtype=float)
    return lambda rows: float(right[rows].mean())


def answers(rows, share, seed=0):
    return np.random.default_rng(seed).permutation(np.arange(rows) < rows * share)


@pytest.mark.parametrize(("rows", "share"), [(100, 0.6), (400, 0.9), (1000, 0.5)])
def test_an_accuracy_s_interval_is_that_of_the_binomial_distribution(rows, share):
    low, high = score_interval([accuracy(answers(rows, share))], rows)
    exact = binom.ppf([0.025, 0.975], rows, share) / rows
    assert [low, high] == pytest.approx(exact, abs=0.015)


@pytest.mark.integration
def test_about_95_of_100_intervals_hold_the_truth():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        low, high = score_interval([accuracy(rng.random(200) < 0.7)], 200)
        held += low <= 0.7 <= high
    assert 88 <= held <= 100  # of a binomial of 100 and 0.95: all but one time in a thousand


def test_two_models_are_compared_on_the_same_rows():
    first = answers(300, 0.7)
    second = first.copy()
    second[np.flatnonzero(~first)[:9]] = True  # nine answers more, all else alike
    low, high = score_interval([accuracy(second)], 300, beside=accuracy(first))
    assert 0 < low < 9 / 300 < high < 0.06
    apart = score_interval([accuracy(answers(300, 0.73, seed=5))], 300, beside=accuracy(first))
    assert apart[0] < 0 < apart[1]  # as large a gain, but on other rows


def test_seeds_that_differ_make_an_interval_wider_and_those_that_agree_do_not():
    runs = [accuracy(answers(500, share)) for share in (0.6, 0.7, 0.8)]
    alike = [runs[1]] * 3
    wide, narrow = score_interval(runs, 500), score_interval(alike, 500)
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])
    assert narrow == pytest.approx(score_interval(alike[:1], 500), abs=0.01)


def test_the_same_scores_have_the_same_interval():
    right = answers(50, 0.5)
    assert score_interval([accuracy(right)], 50) == score_interval([accuracy(right)], 50)


def test_samples_without_a_score_are_left_out_and_where_most_are_there_is_no_interval():
    def needs_two_classes(targets):
        def score(rows):
            if len(np.unique(targets[rows])) < 2:
                raise ValueError("one class")
            return float(targets[rows].mean())

        return score

    assert score_interval([needs_two_classes(np.array([0] * 8 + [1] * 2))], 10) is not None
    assert score_interval([needs_two_classes(np.array([0] * 40 + [1]))], 41) is not None
    assert score_interval([needs_two_classes(np.zeros(10))], 10) is None
    assert score_interval([lambda _: float("nan")], 10) is None


def test_a_single_row_has_an_interval_of_one_value():
    assert score_interval([accuracy([1])], 1) == (1.0, 1.0)
