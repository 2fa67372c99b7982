"""Intervals of scores: they hold what they say, are paired where two models are compared, and never guess."""

import numpy as np
import pytest
from scipy.stats import binom

from pipelines.intervals import contenders, score_interval


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


# Who cannot be told apart from the best.


def models(rows, gains, *, own=0.7, seed=0):
    """Scorers of models that err on the same hard rows and, by their `own` noise, on others.

    Args:
        gains: of each model, how much better it is; 0 for the others.
    """
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=rows)
    return [[accuracy(hard + own * rng.normal(size=rows) + gain > -0.3)] for gain in gains]


@pytest.mark.integration
def test_of_models_that_are_equally_good_the_best_is_kept_95_times_in_100():
    kept = sum(contenders(models(116, [0] * 8, seed=seed), 116)[0] for seed in range(100))
    assert 88 <= kept <= 100  # of a binomial of 100 and 0.95: all but one time in a thousand


def test_the_better_the_best_is_the_fewer_cannot_be_told_apart_from_it():
    found = [contenders(models(300, [gain, 0, 0, 0, 0]), 300) for gain in (0.0, 0.3, 1.5)]
    assert all(flags[0] for flags in found[1:])
    assert sum(found[0]) >= sum(found[1]) >= sum(found[2]) == 1


def test_more_rows_tell_apart_what_few_cannot():
    told_apart = {
        rows: sum(not contenders(models(rows, [0.2, 0], seed=seed), rows)[1] for seed in range(10))
        for rows in (40, 4000)
    }
    assert told_apart[40] <= 5
    assert told_apart[4000] == 10


def test_candidates_are_compared_on_the_same_rows():
    first = answers(300, 0.7)
    second = first.copy()
    second[np.flatnonzero(~first)[:9]] = True
    assert contenders([[accuracy(second)], [accuracy(first)]], 300) == [True, False]
    apart = accuracy(answers(300, 0.73, seed=5))  # as much better, but on other rows
    assert contenders([[apart], [accuracy(first)]], 300) == [True, True]


def test_the_more_are_compared_the_more_chance_the_best_had_of_being_lucky():
    gains = [0.32, 0]
    two = contenders(models(200, gains, seed=2), 200)
    among = contenders(models(200, [*gains, *[0] * 10], seed=2), 200)
    assert two[:2] == [True, False]
    assert among[:2] == [True, True]


def test_where_less_is_better_the_best_has_the_least():
    loss = [[lambda rows, right=run[0]: 1 - right(rows)] for run in models(300, [0, 1.5, 0])]
    assert contenders(loss, 300, better="lower") == [False, True, False]


def test_runs_that_differ_with_the_seed_tell_less_than_runs_that_agree():
    steady, shaky = (
        [accuracy(answers(400, share)) for share in shares] for shares in ((0.7,) * 3, (0.55, 0.7, 0.85))
    )
    better = [accuracy(answers(400, 0.78, seed=0))] * 3
    assert contenders([better, steady], 400) == [True, False]
    assert contenders([better, shaky], 400) == [True, True]


def test_models_that_predict_the_same_cannot_be_told_apart_and_one_alone_is_the_best():
    same = accuracy(answers(100, 0.7))
    assert contenders([[same], [same]], 100) == [True, True]
    assert contenders([[same]], 100) == [True]
    assert contenders([[accuracy([1] * 50)], [accuracy([0] * 50)]], 50) == [True, False]


def test_where_most_samples_have_no_score_nothing_is_told_apart():
    def needs_two_classes(share):
        def score(rows):
            if rows.max() < 40:  # of 41 rows the one that is of another class
                raise ValueError("one class")
            return share

        return score

    good = contenders([[needs_two_classes(0.9)], [needs_two_classes(0.1)]], 41)
    assert good == [True, False]  # two samples of three have that row
    never = [[lambda _: float("nan")], [accuracy(answers(41, 0.5))]]
    assert contenders(never, 41) == [True, True]


def test_the_same_outputs_are_always_compared_alike():
    given = models(60, [0.2, 0, 0.1, 0])
    assert contenders(given, 60) == contenders(given, 60)
