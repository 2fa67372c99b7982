"""What to try next: a function of a study's trials, the space and a seed; nothing else."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.decisions.samplers import SAMPLERS, STARTUP_TRIALS
from search.record import Trial
from spaces import Choice, Space

_PARTS = 3  # of a range, each of which the spread trials try in turn
_ENUMERABLE = 100_000  # points: a finite space up to this size is searched to its end
_RETRIES = 1_000  # random draws to find a new configuration in a larger one

Params = dict[str, Any]


def propose(
    trials: Sequence[Trial],
    space: Space,
    *,
    sampler: str,
    seed: int,
    pareto: bool = False,
    allows: Callable[[Params], bool] = lambda _: True,
) -> Params | None:
    """The next configuration of a study, or None when the space is exhausted.

    It is proposed on an in-memory copy of the study by a sampler seeded from (seed, trial number), so a
    restarted search goes on as it would have. A configuration that the study knows is never proposed again.
    In the copy, a trial that waits or was stopped stands as PRUNED with its score: RUNNING ones count as bad
    for TPE, whatever they reported. Confirmations are left out.

    Args:
        trials: all of the study's trials, the running ones too.
        sampler: the name of one of `SAMPLERS`.
        pareto: look for the front of score against trained parameters, not for the best score alone.
        allows: whether a configuration may be run; others are never proposed.
    """
    trials = [trial for trial in trials if trial.searched]
    number = len(trials)
    rng = np.random.default_rng((seed, number))
    known = {_key(trial.params) for trial in trials}
    if space.size is not None and space.size <= len(known):
        return None
    entry = SAMPLERS[sampler]
    if entry.spread and number < STARTUP_TRIALS:
        proposal = _spread(space, number, seed)
    else:
        model = entry.make(int(rng.integers(2**32)), conditional=space.is_conditional)
        if model is None:
            return _first_new(space, known, allows, np.random.default_rng(seed))
        # With two objectives Optuna's TPE knows no pruned trials either.
        knows_pruned = entry.knows_pruned and not pareto
        distributions = space.distributions()
        shown = [
            _frozen(trial, distributions, knows_pruned=knows_pruned, pareto=pareto)
            for trial in trials
            if entry.learns
        ]
        proposal = _ask(shown, space, model, pareto)
    if _key(proposal) not in known and allows(proposal):
        return proposal
    if space.size is not None and space.size <= _ENUMERABLE:
        return _first_new(space, known, allows, rng)
    for _ in range(_RETRIES):
        proposal = _ask((), space, RandomSampler(seed=int(rng.integers(2**32))))
        if _key(proposal) not in known and allows(proposal):
            return proposal
    return None


def _spread(space: Space, number: int, seed: int) -> Params:
    """The first trials, spread evenly: of any few in a row, each third of each parameter has its share.

    All have the longest schedule: it mostly wins, and only trials of one schedule can be compared at a rung.
    """
    params: Params = {}
    for position, (name, parameter) in enumerate(space.parameters):
        if name == "epochs" and isinstance(parameter, Choice):
            params[name] = max(parameter.values)
            continue
        parts = len(parameter.values) if isinstance(parameter, Choice) else _PARTS
        rng = np.random.default_rng((seed, position, number // parts))
        part = int(rng.permutation(parts)[number % parts])
        params[name] = parameter_at(space, name, (part + rng.random(parts)[number % parts]) / parts)
    return space.effective(params)


def parameter_at(space: Space, name: str, fraction: float) -> Any:
    """A parameter's value at a fraction of its values or its range, 0 to below 1."""
    parameter = dict(space.parameters)[name]
    if isinstance(parameter, Choice):
        return parameter.values[int(fraction * len(parameter.values))]
    low, high = parameter.low, parameter.high
    whole = isinstance(low, int) and isinstance(high, int)
    if whole:
        high = high + 1
    value = low * (high / low) ** fraction if parameter.log else low + (high - low) * fraction
    return int(value) if whole else float(value)


def _frozen(
    trial: Trial, distributions: Mapping[str, BaseDistribution], *, knows_pruned: bool, pareto: bool
) -> FrozenTrial:
    """A trial as the samplers are to see it; to those that know no pruned trials, its score is its value."""
    score, state = trial.score, TrialState.FAIL
    if trial.state == "running":
        state = TrialState.RUNNING
    elif score is not None:
        state = TrialState.PRUNED if trial.state != "complete" and knows_pruned else TrialState.COMPLETE
    reached = max((rung for rung in trial.rungs if rung <= len(trial.epochs)), default=len(trial.epochs))
    values = None if score is None else [score]
    if values and pareto:
        values.append(float(trial.size))
    return create_trial(
        state=state,
        params=dict(trial.params),
        distributions={name: values for name, values in distributions.items() if name in trial.params},
        values=values if state == TrialState.COMPLETE else None,
        intermediate_values={} if score is None or pareto else {reached: score},
    )


def _ask(trials: Sequence[FrozenTrial], space: Space, sampler: BaseSampler, pareto: bool = False) -> Params:
    directions: list[Literal["maximize", "minimize"]] = ["maximize", "minimize"] if pareto else ["maximize"]
    study = optuna.create_study(directions=directions, sampler=sampler)
    study.add_trials([_Known.of(trial) for trial in trials])
    distributions = space.distributions()
    if not space.is_conditional:
        return study.ask(distributions).params
    trial = study.ask()
    params: Params = {}
    for name in space.order:  # define-by-run: a parameter that does not exist is not asked for
        if space.exists(name, params):
            params[name] = _suggest(trial, name, distributions[name])
    return space.effective(params)


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


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
        case IntDistribution():
            return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
        case FloatDistribution():
            return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    raise TypeError(f"no way to sample {distribution}")


def _first_new(
    space: Space,
    known: set[tuple[Any, ...]],
    allows: Callable[[Params], bool],
    rng: np.random.Generator,
) -> Params | None:
    """The first unknown point of the space, of those that are allowed, in the generator's order."""
    points = list(space.points())
    shuffled = (points[index] for index in rng.permutation(len(points)))
    return next((point for point in shuffled if _key(point) not in known and allows(point)), None)


def _key(params: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted(params.items()))
