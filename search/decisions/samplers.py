"""The table of samplers. One is a class of this file, or registered from elsewhere; nothing else knows its
name.
"""

import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler

STARTUP_TRIALS = 6  # spread evenly, before a model is fitted; Optuna's 10 would be most of a small budget


class Sampler:
    """What proposes configurations.

    Attributes:
        name: as the job file has it.
        title: what messages call it.
        learns: whether what it proposes depends on what came before.
        spread: whether its first trials are spread evenly, as a model needs them, and not its own.
        knows_pruned: whether it makes use of a trial that was stopped, by the score that it had come to; to
            others such a trial counts as a complete one.
        several_objectives: whether it can look for the front of score against size.
        needs_finite: whether the space must have lists of values only.
    """

    name: str
    title: str
    learns = True
    spread = True
    knows_pruned = False
    several_objectives = True
    needs_finite = False

    def make(self, seed: int, *, conditional: bool) -> BaseSampler | None:
        """Optuna's sampler, made anew for every proposal; None: the points of a finite space are taken, each
        once, in an order that the job's seed draws.

        Args:
            seed: 0 to 2³² - 1.
            conditional: whether some parameters of the space exist under conditions only.
        """
        raise NotImplementedError


SAMPLERS: dict[str, Sampler] = {}


def register_sampler(sampler: Sampler) -> None:
    """Make a sampler known by its name.

    Raises:
        ValueError: the name is taken.
    """
    if sampler.name in SAMPLERS:
        raise ValueError(f"sampler {sampler.name!r} is registered twice; rename one of them")
    SAMPLERS[sampler.name] = sampler


class Tpe(Sampler):
    """Bergstra et al. 2011, as Optuna has it: tree-structured Parzen estimators."""

    name, title = "tpe", "TPE"
    knows_pruned = True

    def make(self, seed: int, *, conditional: bool) -> BaseSampler:
        # In groups: one model for each set of parameters that exist together.
        return _experimental(
            TPESampler, seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, group=conditional
        )


class GaussianProcess(Sampler):
    """Optuna's Gaussian process."""

    name, title = "gp", "a Gaussian process"

    def make(self, seed: int, *, conditional: bool) -> BaseSampler:
        return _experimental(GPSampler, seed=seed, n_startup_trials=STARTUP_TRIALS)


class CmaEs(Sampler):
    """Hansen and Ostermeier 2001, as Optuna has it."""

    name, title = "cmaes", "CMA-ES"
    several_objectives = False

    def make(self, seed: int, *, conditional: bool) -> BaseSampler:
        return _experimental(
            CmaEsSampler, seed=seed, n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False
        )


class Chance(Sampler):
    """Each configuration drawn by itself."""

    name, title = "random", "random search"
    learns = False
    spread = False

    def make(self, seed: int, *, conditional: bool) -> BaseSampler:
        return RandomSampler(seed=seed)


class Grid(Sampler):
    """Each configuration in turn."""

    name, title = "grid", "a grid"
    spread = False
    needs_finite = True

    def make(self, seed: int, *, conditional: bool) -> None:
        return None


def _experimental(make: Callable[..., BaseSampler], **arguments: Any) -> BaseSampler:
    """A sampler that Optuna calls experimental, made without its warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return make(**arguments)


for _sampler in (Tpe(), GaussianProcess(), CmaEs(), Chance(), Grid()):
    register_sampler(_sampler)
