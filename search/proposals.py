"""What to try next: a function of a study's trials, the space and a seed; nothing else."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from spaces import Space

SAMPLERS = ("tpe", "random", "grid", "gp")
STARTUP_TRIALS = 6  # random ones before a model is fitted; Optuna's 10 would be most of a small budget
_ENUMERABLE = 100_000  # points: a finite space up to this size is searched to its end
_RETRIES = 1_000  # random draws to find a new configuration in a larger one

Params = dict[str, Any]


def propose(trials: Sequence[FrozenTrial], space: Space, *, sampler: str, seed: int) -> Params | None:
    """The next configuration of a study, or None when the space is exhausted.

    It is proposed on an in-memory copy of the study by a sampler seeded from (seed, trial number), so a
    restarted search goes on as it would have. A configuration that the study knows is never proposed again.

    Args:
        trials: all of the study's trials, the running ones too.
        sampler: one of `SAMPLERS`.
    """
    number = len(trials)
    rng = np.random.default_rng((seed, number))
    known = {_key(trial.params) for trial in trials}
    if space.size is not None and space.size <= len(known):
        return None
    if sampler == "grid":
        return _first_new(space, known, np.random.default_rng(seed))
    proposal = _ask(trials, space, _sampler(sampler, seed=int(rng.integers(2**32))))
    if _key(proposal) not in known:
        return proposal
    if space.size is not None and space.size <= _ENUMERABLE:
        return _first_new(space, known, rng)
    for _ in range(_RETRIES):
        proposal = _ask((), space, RandomSampler(seed=int(rng.integers(2**32))))
        if _key(proposal) not in known:
            return proposal
    return None


def _ask(trials: Sequence[FrozenTrial], space: Space, sampler: BaseSampler) -> Params:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials([_Known.of(trial) for trial in trials])
    return study.ask(space.distributions()).params


class _Known(FrozenTrial):
    """A trial that Optuna copies without its contents, which no sampler changes.

    A deep copy of every trial would be most of what a proposal costs: seconds at a few thousand.
    """

    @classmethod
    def of(cls, trial: FrozenTrial) -> "_Known":
        known = cls.__new__(cls)
        vars(known).update(vars(trial))
        return known

    def __deepcopy__(self, memo: object) -> "_Known":
        return copy.copy(self)


def _sampler(name: str, *, seed: int) -> BaseSampler:
    if name == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "gp":
            return GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
        return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)


def _first_new(space: Space, known: set[tuple[Any, ...]], rng: np.random.Generator) -> Params | None:
    """The first unknown point of the space in the generator's order."""
    points = list(space.points())
    shuffled = (points[index] for index in rng.permutation(len(points)))
    return next((point for point in shuffled if _key(point) not in known), None)


def _key(params: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted(params.items()))
