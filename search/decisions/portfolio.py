"""First suggestions for a very first search, from recorded searches of other tasks. Pure.

Like `experience`, a small portfolio of configurations is chosen greedily, so that on each recorded task its
best member comes as near as possible to the best known (Feurer et al. 2022, Auto-sklearn 2.0, §3). Here the
record is of another storage, encoder and space: tasks count by how like the new one they are in what is known
before training (kind, rows, classes, tokens, the encoder's width), and a configuration is suggested only
where the space has one much like it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.record import Params
from spaces import Choice, Range, Space

SUGGESTIONS = 3  # as many as the first rung compares
WIDTHS = 3.0  # of an encoder so many times wider or narrower nothing is known
_KEPT = ("adapter_size", "learning_rate", "epochs")  # what decides how good a configuration is
_LIKE = math.log(10) / 2 + 1e-9  # each of those is at most a factor of the root of ten away
_ALIKE = math.log(20.0)  # tasks with twenty times the rows, classes or tokens count clearly less
_LEAST = 0.1  # weight of a task that is not alike at all


@dataclass(frozen=True)
class TaskFacts:
    """What is known of a task before anything is trained.

    Attributes:
        rows: training rows.
        classes: of a classification, else 1.
        tokens: of a text, in the mean.
        width: the encoder's.
    """

    kind: str
    rows: int
    classes: int
    tokens: float
    width: int

    def weight(self, other: "TaskFacts") -> float:
        """How much another task counts for this one, above 0 and at most 1; 0: nothing follows from it."""
        if self.kind != other.kind or abs(math.log(self.width / other.width)) > math.log(WIDTHS):
            return 0.0
        pairs = (
            (self.rows, other.rows),
            (self.classes, other.classes),
            (self.tokens, other.tokens),
            (self.width, other.width),
        )
        squares = sum((math.log(max(1, one) / max(1, two)) / _ALIKE) ** 2 for one, two in pairs)
        return max(_LEAST, math.exp(-squares))


@dataclass(frozen=True)
class RecordedTask:
    """A task of the record.

    Attributes:
        layers: the encoder's.
        regrets: how far each of its configurations stayed behind (`experience.regrets_of`).
    """

    name: str
    facts: TaskFacts
    layers: int
    regrets: Sequence[tuple[Params, float]]


def suggest(
    record: Sequence[RecordedTask],
    facts: TaskFacts,
    space: Space,
    *,
    default: Mapping[str, Any],
    layers: int,
    size: int = SUGGESTIONS,
) -> list[Params]:
    """The configurations to begin with, the generally best first; none where nothing recorded is like it.

    Args:
        facts: of the new task.
        space: that it is searched in.
        default: the value of each parameter that a space leaves out.
        layers: the encoder's.
        size: at most so many.
    """
    weights = {task.name: facts.weight(task.facts) for task in record}
    tasks = [task for task in record if weights[task.name] > 0]
    regrets = {task.name: {_key(params): regret for params, regret in task.regrets} for task in tasks}
    candidates: dict[_Key, tuple[float, _Key, Params]] = {}  # by what is run: of those alike the nearest
    for task in tasks:
        for params, _ in task.regrets:
            own = _nearest(params, space, default=default, depth=layers / task.layers)
            moved = _moved(params, {**default, **own})
            if moved <= _LIKE and space.contains(own):
                found = (round(moved, 9), _key(params), own)
                candidates[_key(own)] = min(candidates.get(_key(own), found), found, key=lambda one: one[:2])
    chosen: list[Params] = []
    reached = {task.name: 1.0 for task in tasks}
    left = [(recorded, own) for _, recorded, own in candidates.values()]
    while left and len(chosen) < size:

        def after(recorded: _Key, known: Mapping[str, float] = reached) -> float:
            return math.fsum(
                weights[name] * min(known[name], regrets[name].get(recorded, 1.0)) for name in known
            )

        best = min(left, key=lambda one: (round(after(one[0]), 9), _key(one[1])))
        before = math.fsum(weights[name] * known for name, known in reached.items())
        if chosen and before - after(best[0]) < 1e-6:
            break
        chosen.append(best[1])
        left.remove(best)
        reached = {name: min(known, regrets[name].get(best[0], 1.0)) for name, known in reached.items()}
    return chosen


_Key = tuple[tuple[str, str], ...]


def _key(params: Mapping[str, Any]) -> _Key:
    return tuple(sorted((name, repr(value)) for name, value in params.items()))


def _moved(recorded: Params, run: Mapping[str, Any]) -> float:
    """The logarithm of the largest factor between what was recorded and what would be run."""
    return max(abs(math.log(recorded[name] / run[name])) for name in _KEPT if name in recorded)


def _nearest(recorded: Params, space: Space, *, default: Mapping[str, Any], depth: float) -> Params:
    """The configuration of a space that is most like a recorded one.

    Args:
        depth: how many times deeper the encoder is than that of the record.
    """
    wanted = {**default, **recorded}
    if wanted.get("first_layer"):
        wanted["first_layer"] = round(wanted["first_layer"] * depth)
    parameters = dict(space.parameters)
    found: dict[str, Any] = {}
    for name in space.order:
        if space.exists(name, found):
            found[name] = _closest(parameters[name], wanted.get(name))
    return {name: found[name] for name, _ in space.parameters if name in found}


def _closest(parameter: Choice | Range, wanted: Any) -> Any:
    if isinstance(parameter, Choice):
        numbers = [value for value in parameter.values if _is_number(value)]
        if wanted in parameter.values or not numbers or not _is_number(wanted):
            return wanted if wanted in parameter.values else parameter.values[0]
        return min(numbers, key=lambda value: (_apart(float(value), float(wanted)), value))
    if not _is_number(wanted):
        return parameter.low
    return type(parameter.low)(min(max(wanted, parameter.low), parameter.high))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _apart(one: float, two: float) -> float:
    return abs(math.log(one / two)) if one > 0 and two > 0 else abs(one - two)
