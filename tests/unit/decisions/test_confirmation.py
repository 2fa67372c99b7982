"""Leaders that cannot be told apart are run again, a seed more each round, as far as the budget goes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import trial_record

from search.decisions.confirmation import (
    MOST_LEADERS,
    epochs_to_spend,
    leading,
    mean_score,
    next_round,
    pick_winner,
)
from search.record import Leaders

EPOCHS = 2


def searched(*scores, **changes):
    """Complete trials of two epochs with these scores, numbered from 0."""
    found = [
        trial_record(number, [0.0, score], EPOCHS, state="complete") for number, score in enumerate(scores)
    ]
    return [replace(trial, **changes) for trial in found]


def again(trials, of, seed, score, state="complete"):
    """The trials and a run of one of them with another seed."""
    run = trial_record(len(trials), [0.0, score], EPOCHS, state=state, confirms=of)
    return [*trials, replace(run, seed=seed)]


def missing(trials, leaders):
    return [(trial.number, seed) for trial, seed in next_round(trials, leaders)[1]]


def left(trials, leaders):
    return [trial.number for trial in next_round(trials, leaders)[0]]


def all_again(trials, leaders, score):
    """Start and end all that is missing, until nothing is; `score(number, seed)` is what a run gives."""
    for _ in range(100):
        wanted = missing(trials, leaders)
        if not wanted:
            return trials
        for number, seed in wanted:
            trials = again(trials, number, seed, score(number, seed))
    raise AssertionError("it never ends")


def test_each_leader_is_run_again_with_one_seed_more_before_any_drops():
    trials, leaders = searched(0.7, 0.8, 0.9), Leaders((2, 1, 0), epochs=100)
    assert missing(trials, leaders) == [(2, 1), (1, 1), (0, 1)]
    trials = again(trials, 2, 1, 0.5)
    assert missing(trials, leaders) == [(1, 1), (0, 1)]
    trials = again(again(trials, 1, 1, 0.8), 0, 1, 0.7)
    assert left(trials, leaders) == [1, 0]  # means 0.7, 0.8, 0.7: of two alike the lower number
    assert missing(trials, leaders) == [(1, 2), (0, 2)]


def test_who_has_dropped_out_does_not_come_back_by_what_the_others_run_later():
    trials, leaders = searched(0.7, 0.8, 0.9), Leaders((2, 1, 0), epochs=100)
    for number, score in ((2, 0.9), (1, 0.8), (0, 0.7)):
        trials = again(trials, number, 1, score)
    assert left(trials, leaders) == [2, 1]
    trials = again(trials, 2, 2, 0.0)
    assert missing(trials, leaders) == [(1, 2)]
    trials = again(trials, 1, 2, 0.0)
    assert missing(trials, leaders) == []
    assert pick_winner(trials, leaders).params == trials[2].params  # means 0.6, 0.53, though 0.7 has dropped


def test_a_round_waits_for_its_last_run():
    trials, leaders = searched(0.7, 0.8), Leaders((1, 0), epochs=100)
    trials = again(again(trials, 1, 1, 0.9), 0, 1, 0.1, state="running")
    assert missing(trials, leaders) == []
    assert left(trials, leaders) == [1, 0]


def test_the_best_mean_wins_though_another_had_the_best_run():
    trials, leaders = searched(0.7, 0.9), Leaders((1, 0), epochs=100)
    trials = again(again(trials, 1, 1, 0.5), 0, 1, 0.75)
    assert missing(trials, leaders) == []
    assert pick_winner(trials, leaders).params == trials[0].params
    assert pick_winner(trials, leaders).number == 3  # as near to the mean as trial 0, and better
    assert pick_winner(trials, None).number == 1


def test_the_run_nearest_to_the_mean_is_the_winner_or_the_best_if_that_is_asked_for():
    trials = searched(0.9, 0.8)
    for number, seed, score in ((0, 1, 0.6), (1, 1, 0.5), (0, 2, 0.72)):
        trials = again(trials, number, seed, score)
    nearest, best = (Leaders((0, 1), epochs=4, export=export) for export in ("nearest", "best"))
    assert mean_score(trials, trials[0]) == pytest.approx(0.74)
    assert trials[pick_winner(trials, nearest).number].score == 0.72
    assert pick_winner(trials, best).number == 0


def test_a_leader_alone_wins_and_costs_nothing():
    trials, alone = searched(0.7, 0.9), Leaders((1,), epochs=100)
    assert missing(trials, alone) == []
    assert pick_winner(trials, alone).number == 1


@pytest.mark.parametrize(("budget", "run_again"), [(0, 0), (3, 0), (4, 2), (5, 2), (6, 3), (99, 4)])
def test_as_many_of_the_first_are_run_again_as_the_budget_does_for_but_never_one_alone(budget, run_again):
    leaders = Leaders((3, 2, 1, 0), epochs=budget)
    assert missing(searched(0.6, 0.7, 0.8, 0.9), leaders) == [(3, 1), (2, 1), (1, 1), (0, 1)][:run_again]


def test_without_a_round_the_best_of_the_search_wins():
    trials, leaders = searched(0.6, 0.9, 0.8), Leaders((1, 2), epochs=3)
    assert pick_winner(trials, leaders).number == 1


def test_a_run_that_failed_takes_its_configuration_out_unless_all_did():
    trials, leaders = searched(0.8, 0.9), Leaders((1, 0), epochs=100)
    one = again(again(trials, 1, 1, 0.0, state="failed"), 0, 1, 0.7)
    assert missing(one, leaders) == []
    assert pick_winner(one, leaders).params == trials[0].params
    both = again(again(trials, 1, 1, 0.0, state="failed"), 0, 1, 0.0, state="failed")
    assert missing(both, leaders) == []
    assert pick_winner(both, leaders).number == 1


def test_a_trial_of_another_seed_is_repeated_with_the_seeds_after_its_own():
    trials = searched(0.8, 0.9, seed=41)
    assert missing(trials, Leaders((1, 0), epochs=100)) == [(1, 42), (0, 42)]


def test_the_budget_is_a_share_of_what_the_search_itself_has_trained():
    trials = [*searched(0.5, 0.6, 0.7, 0.8, 0.9), trial_record(5, [0.1], EPOCHS, state="pruned")]
    assert epochs_to_spend(trials, 0.25) == 2  # of 11 epochs
    assert epochs_to_spend(again(trials, 0, 1, 0.5), 0.25) == 2
    assert epochs_to_spend(trials, 2.0) == 22


def test_the_first_eight_of_the_search_are_compared_and_no_other_run():
    trials = again(searched(*(0.1 + number / 100 for number in range(12))), 3, 1, 0.99)
    assert [trial.number for trial in leading(trials)] == [11, 10, 9, 8, 7, 6, 5, 4]
    assert MOST_LEADERS == 8


def test_nobody_wins_where_no_trial_ended_well():
    assert pick_winner([trial_record(0, [], EPOCHS, state="failed")], None) is None


SCORES = st.lists(st.integers(0, 20).map(lambda score: score / 20), min_size=2, max_size=MOST_LEADERS)


@given(SCORES, st.integers(0, 80), st.data())
def test_whatever_the_runs_give_it_ends_within_its_budget_and_the_winner_is_a_leader_s_run(
    scores, budget, data
):
    trials = searched(*scores)
    order = [trial.number for trial in leading(trials)]
    leaders = Leaders(tuple(order), epochs=budget)
    draw = st.integers(0, 20).map(lambda score: score / 20)
    done = all_again(trials, leaders, lambda *_: data.draw(draw))
    spent = sum(len(trial.epochs) for trial in done if trial.confirms is not None)
    assert spent <= budget
    seeds = {number: 1 + sum(run.confirms == number for run in done) for number in order}
    winner = pick_winner(done, leaders)
    base = winner.number if winner.confirms is None else winner.confirms
    assert seeds[base] == max(seeds.values())  # nobody wins with fewer runs than another has
    survivors = left(done, leaders)
    assert mean_score(done, done[base]) == max(mean_score(done, done[number]) for number in survivors)


@given(SCORES, st.randoms())
def test_the_order_in_which_runs_end_does_not_matter(scores, rng):
    trials, scored = searched(*scores), {}
    leaders = Leaders(tuple(trial.number for trial in leading(trials)), epochs=1000)

    def score(number, seed):
        return scored.setdefault((number, seed), ((number * 7 + seed * 3) % 11) / 11)

    steady = all_again(trials, leaders, score)
    shuffled = trials
    while wanted := missing(shuffled, leaders):
        number, seed = rng.choice(wanted)
        shuffled = again(shuffled, number, seed, score(number, seed))
    one, other = pick_winner(steady, leaders), pick_winner(shuffled, leaders)
    assert (one.params, one.seed, one.score) == (other.params, other.seed, other.score)
