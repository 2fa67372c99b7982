"""Rung decisions are functions of the record: whatever the order of arrival, and after any restart."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import trial_record

from search.decisions.halving import FIRST_PEERS, describe_ends, next_promotion, peers, rungs, score_at

FACTORS = st.integers(2, 4)


@st.composite
def searches(draw, factor):
    """Trials of two schedules, each as far as it may be; few scores, so that there are ties."""
    trials = []
    for number in range(draw(st.integers(0, 14))):
        schedule = draw(st.sampled_from([3, 10]))
        stops = (0, *rungs(schedule, factor))
        promoted = draw(st.sampled_from(stops))
        limit = next((rung for rung in stops if rung > promoted), schedule)
        count = draw(st.integers(promoted, limit))
        scores = draw(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=count, max_size=count))
        failed = draw(st.integers(0, 9)) == 0
        trials.append(
            trial_record(
                number, scores, schedule, factor=factor, promoted=promoted, state="failed" if failed else None
            )
        )
    return trials


@given(st.integers(1, 200), FACTORS)
def test_at_every_rung_at_least_as_much_is_left_as_is_spent(schedule, factor):
    found = rungs(schedule, factor)
    assert found == tuple(factor**power for power in range(len(found)))
    assert all(2 * rung <= schedule for rung in found)
    assert 2 * factor ** len(found) > schedule


def test_the_rungs_of_the_papers_schedules():
    assert [rungs(schedule, 3) for schedule in (1, 3, 10, 20, 50)] == [
        (),
        (1,),
        (1, 3),
        (1, 3, 9),
        (1, 3, 9),
    ]


@pytest.mark.integration
@given(st.data(), FACTORS, st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(data, factor, growing, rng):
    trials = data.draw(searches(factor))
    shuffled = rng.sample(trials, len(trials))
    assert next_promotion(shuffled, growing=growing) == next_promotion(trials, growing=growing)


@pytest.mark.integration
@given(st.data(), FACTORS, st.booleans())
def test_no_one_is_promoted_who_is_not_among_the_best_of_a_rung(data, factor, growing):
    trials = data.draw(searches(factor))
    chosen = next_promotion(trials, growing=growing)
    if chosen is None:
        return
    assert chosen.state == "paused"
    there = [
        trial
        for trial in trials
        if trial.schedule == chosen.schedule and len(trial.epochs) >= chosen.rung and trial.state != "failed"
    ]
    better = [one for one in there if score_at(one, chosen.rung) > score_at(chosen, chosen.rung)]
    assert len(better) < math.ceil(len(there) / 2)
    if growing and chosen.rung == 1:
        assert len(there) >= FIRST_PEERS


def test_of_trials_with_one_score_the_one_with_the_least_validation_loss_goes_on():
    """After an epoch all three answer with the most frequent class."""
    losses = {0: [0.69], 1: [0.68], 2: [0.61], 3: [0.65]}
    trials = [trial_record(number, [0.8], 3, losses=losses[number]) for number in losses]
    assert next_promotion(trials, growing=True) == trials[2]
    assert [trial.number for trial in peers(trials, 3, 1)] == [2, 3, 1, 0]


def test_a_score_counts_more_than_a_loss():
    trials = [trial_record(0, [0.8], 3, losses=[0.3]), trial_record(1, [0.9], 3, losses=[0.6])]
    assert [trial.number for trial in peers(trials, 3, 1)] == [1, 0]


def test_trials_without_a_recorded_loss_come_after_those_with_one_then_by_number():
    losses = {0: None, 1: [0.69], 2: None}
    trials = [trial_record(number, [0.8], 3, losses=losses[number]) for number in losses]
    assert [trial.number for trial in peers(trials, 3, 1)] == [1, 0, 2]


@pytest.mark.integration
@given(st.data(), FACTORS)
def test_promoting_all_who_may_go_on_ends_and_leaves_no_group_without_its_best(data, factor):
    trials = data.draw(searches(factor))
    for _ in range(200):
        chosen = next_promotion(trials, growing=False)
        if chosen is None:
            break
        end = next((rung for rung in chosen.rungs if rung > chosen.rung), chosen.schedule)
        scores = [epoch.score for epoch in chosen.epochs]
        scores += [scores[-1]] * (end - len(scores))
        trials[chosen.number] = trial_record(
            chosen.number, scores, chosen.schedule, factor=factor, promoted=chosen.rung
        )
        # Those that ran have ended too.
        trials = [
            trial_record(one.number, [0.1] * one.schedule, one.schedule, factor=factor, promoted=99)
            if one.state == "running"
            else one
            for one in trials
        ]
    else:
        raise AssertionError("promotions go on for ever")
    if not any(trial.state == "running" for trial in trials):
        waiting = {trial.number for trial in trials if trial.state == "paused"}
        assert describe_ends(trials).keys() == waiting
        for number in waiting:
            there = peers(trials, trials[number].schedule, trials[number].rung)
            assert len(there) > 1
            assert trials[number] not in there[: math.ceil(len(there) / 2)]


def test_confirmations_and_other_schedules_are_no_peers():
    trials = [
        trial_record(0, [0.5], 10),
        trial_record(1, [0.9], 3),
        trial_record(2, [0.8] * 10, 10, confirms=0),
        trial_record(3, [0.7], 10, state="failed"),
    ]
    assert [trial.number for trial in peers(trials, 10, 1)] == [0]


def test_a_score_at_a_rung_is_the_best_up_to_there_whatever_came_later():
    trial = replace(trial_record(0, [0.5, 0.4, 0.3, 0.9], 10), promoted=3)
    assert (score_at(trial, 1), score_at(trial, 3), score_at(trial, 4)) == (0.5, 0.5, 0.9)


def test_one_epoch_too_many_does_not_carry_a_trial_past_its_rung():
    # The driver died before it read the first one; the worker had trained the second.
    assert trial_record(0, [0.5, 0.6], 10).rung == 1
    assert trial_record(0, [0.5, 0.6], 10).state == "paused"


def test_the_first_trials_wait_until_there_are_enough_to_compare():
    trials = [trial_record(0, [0.5], 10), trial_record(1, [0.6], 10)]
    assert next_promotion(trials, growing=True) is None
    assert next_promotion(trials, growing=False).number == 1
    assert next_promotion([*trials, trial_record(2, [0.1], 10)], growing=True).number == 1


def test_above_the_first_rung_the_best_goes_on_at_once():
    assert next_promotion([trial_record(0, [0.5, 0.6, 0.7], 10, promoted=1)], growing=True).number == 0
