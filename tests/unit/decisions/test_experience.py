"""What a new task learns from earlier ones."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import add, create, note_winner, opened, trial_record

from search.decisions.experience import portfolio, regrets_of
from search.errors import UserError
from search.experience import find_earlier
from spaces import Space

SPACE = Space.parse({"adapter_size": [8, 64, 256], "learning_rate": [1e-4, 1e-3, 1e-2], "epochs": [3]})
ENDLESS = Space.parse({"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}, "epochs": [3]})


def task(best, *, space=SPACE, count=9, scale=1.0):
    """Trials of a task with its best learning rate; scores fall with the distance from it."""
    if space.size is not None:
        given = list(space.points())
    else:
        given = [{"learning_rate": 10 ** (-5 + 4 * at / (count - 1)), "epochs": 3} for at in range(count)]
    return [trial(number, params, best, scale) for number, params in enumerate(given)]


def trial(number, params, best, scale):
    score = 0.9 - scale * abs(math.log10(params["learning_rate"]) - math.log10(best)) / 10
    one = trial_record(number, [score] * 3, 3)
    return type(one)(**{**vars(one), "params": params})


def test_the_first_suggestion_is_best_for_most_and_the_next_for_the_rest():
    chosen = portfolio([task(1e-3), task(1e-3), task(1e-3), task(1e-2)], SPACE)
    assert [params["learning_rate"] for params in chosen[:2]] == [1e-3, 1e-2]


def test_more_suggestions_than_help_are_not_made():
    assert len(portfolio([task(1e-3)] * 3, SPACE, size=3)) == 1


def test_tasks_count_alike_whatever_the_scale_of_their_scores():
    # One task whose scores differ wildly does not outvote two with small differences.
    chosen = portfolio([task(1e-2, scale=9.0), task(1e-3, scale=0.1), task(1e-3, scale=0.1)], SPACE)
    assert chosen[0]["learning_rate"] == 1e-3


def test_tasks_need_not_have_tried_the_same_configurations():
    first, second = task(1e-3, space=ENDLESS, count=9), task(1e-3, space=ENDLESS, count=8)
    (params, *_) = portfolio([first, second], ENDLESS)
    assert 3e-4 < params["learning_rate"] < 3e-3


def test_no_experience_gives_no_suggestions():
    assert portfolio([], SPACE) == []
    assert portfolio([[]], SPACE) == []


@pytest.mark.integration
@given(st.permutations(range(4)), st.integers(1, 4))
def test_the_order_of_the_tasks_does_not_matter_and_suggestions_lie_in_the_space(order, size):
    tasks = [task(best) for best in (1e-4, 1e-3, 1e-3, 1e-2)]
    chosen = portfolio([tasks[place] for place in order], SPACE, size)
    assert chosen == portfolio(tasks, SPACE, size)
    assert len(chosen) <= size
    assert all(SPACE.contains(params) for params in chosen)


def test_a_paused_trial_is_compared_with_others_at_its_own_rung():
    # After one epoch 0.5 is as good as the later winner was: the trial has no regret to speak of.
    trials = [
        trial_record(0, [0.5] + [0.9] * 9, 10, promoted=3),
        trial_record(1, [0.5], 10),
        trial_record(2, [0.1], 10),
    ]
    regrets = [regret for _, regret in regrets_of(trials)]
    assert regrets[0] == regrets[1] == 0
    assert regrets[2] > 0


def study_of(record, name, *, winner=True, fingerprint="abc", space=SPACE):
    content = {"space": {"adapter": space.to_dict()}}
    study = create(record, name, backbone_fingerprint=fingerprint, content=content)
    add(study, [0.5])
    if winner:
        note_winner(study, 0)


@pytest.mark.integration
def test_only_finished_studies_with_the_same_backbone_method_and_space_count(tmp_path):
    with opened(tmp_path) as db:
        study_of(db, "one/a/adapter")
        study_of(db, "one/b/adapter")
        study_of(db, "two/c/adapter", winner=False)
        study_of(db, "three/d/adapter", fingerprint="other")
        study_of(db, "four/e/adapter", space=ENDLESS)
        study_of(db, "five/f/fine_tune")
        study_of(db, "mine/g/adapter")

        def names(wanted):
            given = {"job": "mine", "method": "adapter", "fingerprint": "abc", "space": SPACE}
            return [study.name for study in find_earlier(db, wanted, **given)]

        assert names("auto") == ["one/a/adapter", "one/b/adapter"]
        assert names("none") == []
        assert names(("one",)) == names("auto")
        for other in ("two", "nowhere"):
            with pytest.raises(UserError, match=f"experience names the job '{other}'"):
                names((other,))
