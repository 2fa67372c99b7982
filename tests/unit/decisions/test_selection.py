import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import epochs

from search.decisions.selection import pick_best, rank
from search.record import Trial

STATES = ("running", "paused", "complete", "pruned", "failed")


def record(number, scores, *, state="complete", trained=100):
    return Trial(
        number=number,
        state=state,
        params={"adapter_size": 8},
        epochs=tuple(epochs(scores)),
        trained_parameters=trained,
    )


# Few values, so that there are ties at every step.
SCORES = st.lists(st.sampled_from([-0.5, 0.0, 0.5, 0.75, 1.0]), min_size=1, max_size=3)


@st.composite
def trials(draw):
    size = draw(st.integers(0, 8))
    return [
        record(
            number,
            draw(SCORES),
            state=draw(st.sampled_from(STATES)),
            trained=draw(st.sampled_from([10, 100, 1000])),
        )
        for number in range(size)
    ]


@given(trials(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(found, rng):
    assert rank(rng.sample(found, len(found))) == rank(found)


@given(trials())
def test_no_trial_that_ended_with_a_score_beats_the_winner(found):
    complete = [trial for trial in found if trial.state in ("complete", "pruned")]
    best = pick_best(found)
    if not complete:
        assert best is None
        return
    assert best in complete
    top = max(trial.score for trial in complete)
    smallest = min(trial.trained_parameters for trial in complete if trial.score == top)
    lowest = min(
        trial.number for trial in complete if trial.score == top and trial.trained_parameters == smallest
    )
    assert (best.score, best.trained_parameters, best.number) == (top, smallest, lowest)


@pytest.mark.integration
@given(trials())
def test_the_ranking_holds_every_trial_that_ended_with_a_score_once_and_no_other(found):
    complete = sorted(trial.number for trial in found if trial.state in ("complete", "pruned"))
    assert sorted(trial.number for trial in rank(found)) == complete


def test_the_best_epoch_counts_not_the_last():
    assert pick_best([record(0, [0.9, 0.1]), record(1, [0.8, 0.8])]).number == 0


def test_the_highest_score_wins_at_any_size():
    assert pick_best([record(0, [0.9], trained=10), record(1, [0.91], trained=10**6)]).number == 1


def test_of_equal_scores_the_smaller_adapter_wins():
    assert pick_best([record(0, [0.9], trained=200), record(1, [0.9], trained=100)]).number == 1


def test_of_equals_the_earlier_trial_wins():
    assert pick_best([record(2, [0.9]), record(1, [0.9])]).number == 1


def test_a_trial_that_failed_never_wins_whatever_it_reached():
    assert pick_best([record(0, [1.0], state="failed"), record(1, [0.1])]).number == 1
    assert pick_best([record(0, [1.0], state="failed")]) is None


def test_a_trial_that_runs_does_not_win_yet():
    assert pick_best([record(0, [1.0], state="running"), record(1, [0.1])]).number == 1


def test_without_trials_no_one_wins():
    assert pick_best([]) is None
