"""Optuna's samplers are used through `propose` alone: what we promise of it, for each of them."""

import itertools
import math
from dataclasses import replace

import optuna
import pytest
from studies import epochs

from search.decisions.proposals import SAMPLERS, STARTUP_TRIALS, propose
from search.record import Trial
from spaces import Space

FINITE = Space.parse({"adapter_size": [8, 64, 256], "learning_rate": [1e-4, 1e-3], "epochs": [2, 3]})
ENDLESS = Space.parse(
    {
        "adapter_size": {"low": 8, "high": 256, "log": True},
        "learning_rate": {"low": 3e-5, "high": 3e-3, "log": True},
        "epochs": [3, 20],
    }
)
MODELS = [name for name in SAMPLERS if name != "grid"]  # those that also search ranges


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def trial(params, state="complete"):
    """A trial whose score falls with its distance from a learning rate of 1e-3."""
    score = 1 - abs(math.log10(params["learning_rate"]) + 3) / 3
    return Trial(
        number=0,
        state=state,
        params=params,
        epochs=tuple(epochs([] if state == "failed" else [score])),
    )


def search(space, sampler, count, *, seed=0, states=("complete",)):
    """The configurations of a search of so many trials, that end in the given states by turns."""
    trials, proposals = [], []
    for _, state in zip(range(count), itertools.cycle(states), strict=False):
        params = propose(number_all(trials), space, sampler=sampler, seed=seed)
        if params is None:
            break
        proposals.append(params)
        trials.append(trial(params, state))
    return proposals


def number_all(trials):
    return [replace(one, number=number) for number, one in enumerate(trials)]


def points(proposals):
    return [tuple(sorted(params.items())) for params in proposals]


@pytest.mark.integration
@pytest.mark.parametrize("sampler", MODELS)
def test_every_proposal_lies_within_the_inclusive_bounds_of_ranges(sampler):
    assert all(ENDLESS.contains(params) for params in search(ENDLESS, sampler, STARTUP_TRIALS + 3))


@pytest.mark.integration
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_finite_space_is_searched_to_its_end_with_each_point_once(sampler):
    found = points(search(FINITE, sampler, FINITE.size + 5))
    assert len(found) == FINITE.size
    assert set(found) == set(points(FINITE.points()))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_known_configuration_is_not_proposed_again_however_its_trial_ended(sampler):
    states = ("complete", "failed", "running", "pruned", "paused")
    found = points(search(FINITE, sampler, FINITE.size, states=states))
    assert len(set(found)) == FINITE.size


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_space_of_one_point_has_one_proposal(sampler):
    single = Space.parse({"learning_rate": 1e-3})
    assert search(single, sampler, 3) == [{"learning_rate": 1e-3}]


@pytest.mark.parametrize("sampler", MODELS)
def test_a_small_range_of_whole_numbers_is_searched_to_its_end(sampler):
    space = Space.parse({"learning_rate": 1e-3, "epochs": {"low": 3, "high": 7}})
    found = search(space, sampler, 10)
    assert sorted(params["epochs"] for params in found) == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_proposal_is_a_function_of_trials_and_seed(sampler):
    trials = number_all([trial(params) for params in itertools.islice(FINITE.points(), 7)])
    first = propose(trials, FINITE, sampler=sampler, seed=3)
    assert all(propose(trials, FINITE, sampler=sampler, seed=3) == first for _ in range(3))


@pytest.mark.parametrize("sampler", MODELS)
def test_another_seed_gives_another_search(sampler):
    assert search(ENDLESS, sampler, 1, seed=0) != search(ENDLESS, sampler, 1, seed=1)


def test_another_seed_gives_the_grid_in_another_order():
    orders = {tuple(points(search(FINITE, "grid", 12, seed=seed))) for seed in range(3)}
    assert len(orders) == 3


@pytest.mark.integration
@pytest.mark.parametrize("sampler", MODELS)
def test_a_restarted_search_goes_on_and_does_not_repeat_its_first_proposals(sampler):
    # Optuna's issue 3255: a seeded sampler that is made anew begins its random numbers anew.
    before = search(ENDLESS, sampler, STARTUP_TRIALS)
    trials = [trial(params) for params in before]
    after = []
    for _ in range(2):
        params = propose(number_all(trials), ENDLESS, sampler=sampler, seed=0)
        after.append(params)
        trials.append(trial(params))
    rates = [params["learning_rate"] for params in before + after]
    assert len(set(rates)) == len(rates)
    assert before + after == search(ENDLESS, sampler, STARTUP_TRIALS + 2)  # as if never interrupted


@pytest.mark.parametrize("sampler", MODELS)
def test_each_trial_number_has_a_random_draw_of_its_own(sampler):
    # Trials that are not ours, so that no proposal is avoided for being known.
    given = [{"adapter_size": 8, "learning_rate": 3e-5, "epochs": 3}] * (STARTUP_TRIALS - 1)
    trials = number_all([trial(params) for params in given])
    rates = [
        propose(trials[:count], ENDLESS, sampler=sampler, seed=0)["learning_rate"]
        for count in range(STARTUP_TRIALS)
    ]
    assert len(set(rates)) == STARTUP_TRIALS


@pytest.mark.integration
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("ended", [0, STARTUP_TRIALS])
def test_trials_that_run_at_once_differ(sampler, ended):
    trials = [trial(params) for params in itertools.islice(FINITE.points(), ended)]
    found = []
    for _ in range(4):
        params = propose(number_all(trials), FINITE, sampler=sampler, seed=0)
        found.append(params)
        trials.append(trial(params, "running"))
    assert len(set(points(found))) == 4


def test_tpe_prefers_what_scored_well():
    # The score of `trial` is best at 1e-3: later proposals lie nearer to it than random ones do.
    def distances(sampler):
        found = search(ENDLESS, sampler, 24, seed=1)[STARTUP_TRIALS + 6 :]
        return sum(abs(math.log10(params["learning_rate"]) + 3) for params in found) / len(found)

    assert distances("tpe") < distances("random")


def test_both_ends_of_a_range_of_whole_numbers_are_reached():
    # Tune's randint(8, 256) would never give 256.
    space = Space.parse({"adapter_size": {"low": 8, "high": 256}, "learning_rate": [1e-4, 1e-3]})
    every = [params for params in space.points() if 8 < params["adapter_size"] < 256]
    trials = number_all([trial(params) for params in every])
    left = []
    while (params := propose(trials, space, sampler="random", seed=0)) is not None:
        left.append(params["adapter_size"])
        trials = number_all([*trials, trial(params)])
    assert sorted(left) == [8, 8, 256, 256]


def test_a_logarithmic_range_is_searched_evenly_in_its_logarithm():
    trials = []
    for _ in range(60):
        params = propose(number_all(trials), ENDLESS, sampler="random", seed=0)
        trials.append(trial(params))
    low = sum(one.params["learning_rate"] < 3e-4 for one in trials)  # the middle of 3e-5 to 3e-3
    assert 15 <= low <= 45  # by chance outside of it less than once in 10,000; an even range gives about 5
