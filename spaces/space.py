"""What is searched: parameters, their bounds, and the Optuna distributions they become."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from spaces.conditions import Condition, Value, check_conditions, read_when, sort_by_need
from spaces.errors import FieldError, SpaceError, suggest
from spaces.legal import Legal, Number
from spaces.parameters import PARAMETERS


@dataclass(frozen=True)
class Choice:
    """One of the values, as they stand; a single one is fixed. It exists where all of ``when`` hold."""

    values: tuple[Value, ...]
    when: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Range:
    """From low to high, both included; uniform in the logarithm if ``log``. It exists where ``when`` hold."""

    low: Number
    high: Number
    log: bool = False
    when: tuple[Condition, ...] = ()


Parameter = Choice | Range


@dataclass(frozen=True)
class Space:
    """What one search tries. Parameters it leaves out have the paper's value.

    Checked at birth (``SpaceError`` names all that is wrong) and kept in the order of ``PARAMETERS``, so that
    spaces that mean the same are equal. Values of float parameters are floats. ``Space.parse`` reads the
    written form.
    """

    parameters: tuple[tuple[str, Parameter], ...]

    def __post_init__(self) -> None:
        problems = [p for name, parameter in self.parameters for p in _problems(name, parameter)]
        names = [name for name, _ in self.parameters]
        if not names:
            problems.append(_empty({}))
        if len(set(names)) < len(names):
            problems.append(FieldError("space", names, "has a parameter twice", "Keep one of each."))
        if not problems:
            values = {n: p.values if isinstance(p, Choice) else None for n, p in self.parameters}
            problems += check_conditions(self._conditions, values)
        if problems:
            raise SpaceError(tuple(problems))
        ordered = sorted(self.parameters, key=lambda pair: list(PARAMETERS).index(pair[0]))
        floats = ((name, _as_floats(p) if PARAMETERS[name].kind is float else p) for name, p in ordered)
        object.__setattr__(self, "parameters", tuple(floats))

    @classmethod
    def parse(cls, raw: object) -> "Space":
        """Read the written form: a list is a choice, ``{low, high, log}`` a range, a single value is fixed.

        A parameter that exists only for some values of another is written ``{low, high, when}`` or ``{values,
        when}``.

        Raises:
            SpaceError: with everything that is wrong, not only the first.
        """
        if not isinstance(raw, Mapping):
            fix = "Write parameters and their values, e.g. {adapter_size: [8, 64, 256]}."
            raise SpaceError((FieldError("space", raw, "needs a mapping", fix),))
        if not raw:
            raise SpaceError((_empty(raw),))
        parameters: list[tuple[str, Parameter]] = []
        problems: list[FieldError] = []
        for name, written in raw.items():
            if unknown := _unknown(name, written):
                problems.append(unknown)
                continue
            if isinstance(written, Mapping) and (shape := _shape_problems(name, written)):
                problems.extend(shape)
                continue
            parameter, wrong = _read(name, written)
            problems.extend(wrong)
            problems.extend(_problems(name, parameter))
            parameters.append((name, parameter))
        if problems:
            raise SpaceError(tuple(problems))
        return cls(tuple(parameters))

    def to_dict(self) -> dict[str, Any]:
        """The written form, made of JSON's types; ``parse`` gives the same space back."""
        return {name: _write(parameter) for name, parameter in self.parameters}

    def distributions(self) -> dict[str, BaseDistribution]:
        """What Optuna samples from, by parameter."""
        return {name: _distribution(PARAMETERS[name], p) for name, p in self.parameters}

    @property
    def size(self) -> int | None:
        """How many configurations there are; None where a float range makes them countless."""
        if self.is_conditional:
            return self._conditional_size()
        sizes = [_values_count(PARAMETERS[name], p) for name, p in self.parameters]
        finite = [size for size in sizes if size is not None]
        return math.prod(finite) if len(finite) == len(sizes) else None

    @property
    def ranges(self) -> tuple[str, ...]:
        """The parameters that are ranges; a grid has none."""
        return tuple(name for name, p in self.parameters if isinstance(p, Range))

    def bounds(self, name: str) -> tuple[Number, Number] | None:
        """The least and the greatest value of a parameter; None where the space leaves it out."""
        parameter = dict(self.parameters).get(name)
        if parameter is None:
            return None
        values = parameter.values if isinstance(parameter, Choice) else (parameter.low, parameter.high)
        numbers = [value for value in values if isinstance(value, int | float)]
        return (min(numbers), max(numbers)) if numbers else None

    def values(self, name: str) -> tuple[Value, ...]:
        """The values of a choice; none where the parameter is left out or a range."""
        parameter = dict(self.parameters).get(name)
        return parameter.values if isinstance(parameter, Choice) else ()

    def beside(self, name: str, value: Value, more: tuple[Value, ...]) -> "Space":
        """With more values of a choice, for which all exists that exists for `value`.

        A parameter that the space leaves out is then chosen from `value` and these.
        """
        if not more:
            return self
        found = {
            other: _beside(other == name, parameter, name, value, more)
            for other, parameter in self.parameters
        }
        return Space(tuple({name: Choice((value, *more)), **found}.items()))

    @property
    def is_conditional(self) -> bool:
        """Whether some parameter exists only for some values of others."""
        return any(parameter.when for _, parameter in self.parameters)

    @property
    def order(self) -> tuple[str, ...]:
        """The parameters' names, each after those that it depends on: the order in which to choose values."""
        return tuple(sort_by_need(self._conditions)) if self.is_conditional else tuple(self._conditions)

    def exists(self, name: str, params: Mapping[str, object]) -> bool:
        """Whether a configuration has a parameter, given those that it depends on."""
        return all(condition.holds(params) for condition in self._conditions[name])

    def effective(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration without the values of parameters that it does not have."""
        found: dict[str, Any] = {}
        for name in self.order:
            if name in params and self.exists(name, found):
                found[name] = params[name]
        return {name: found[name] for name, _ in self.parameters if name in found}

    @property
    def _conditions(self) -> dict[str, tuple[Condition, ...]]:
        return {name: parameter.when for name, parameter in self.parameters}

    def _conditional_size(self) -> int | None:
        """Counted over the values of those parameters that others depend on; the rest multiplies."""
        if any(_values_count(PARAMETERS[name], p) is None for name, p in self.parameters):
            return None
        deciding = {condition.name for _, p in self.parameters for condition in p.when}
        parts = tuple((name, p) for name, p in self.parameters if name in deciding)
        total = 0
        for params in Space(parts).points():
            counts = [
                _values_count(PARAMETERS[name], p) or 0
                for name, p in self.parameters
                if name not in deciding and self.exists(name, params)
            ]
            total += math.prod(counts)
        return total

    def points(self) -> Iterator[dict[str, Value]]:
        """Every configuration of a finite space, the last parameter changing fastest.

        Raises:
            FieldError: for a parameter with countless values; at the call, not at the first point.
        """
        axes: dict[str, tuple[Value, ...] | range] = {}
        for name, p in self.parameters:
            if isinstance(p, Choice):
                axes[name] = p.values
            elif PARAMETERS[name].kind is int:
                axes[name] = range(int(p.low), int(p.high) + 1)
            else:
                raise FieldError(
                    name, self.to_dict()[name], "has countless values", "Write a list of values."
                )
        if self.is_conditional:
            return self._grow({}, self.order, axes)
        return (dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values()))

    def _grow(
        self,
        params: dict[str, Value],
        names: tuple[str, ...],
        axes: Mapping[str, tuple[Value, ...] | range],
    ) -> Iterator[dict[str, Value]]:
        """The configurations that begin with these parameters."""
        if not names:
            yield {name: params[name] for name, _ in self.parameters if name in params}
        elif self.exists(names[0], params):
            for value in axes[names[0]]:
                yield from self._grow({**params, names[0]: value}, names[1:], axes)
        else:
            yield from self._grow(params, names[1:], axes)

    def contains(self, params: Mapping[str, object]) -> bool:
        """Whether this is a configuration of the space: its parameters and no others, each within it."""
        wanted = {name: p for name, p in self.parameters if self.exists(name, params)}
        return params.keys() == wanted.keys() and all(
            _has(PARAMETERS[name], p, params[name]) for name, p in wanted.items()
        )


def _beside(own: bool, parameter: Parameter, name: str, value: Value, more: tuple[Value, ...]) -> Parameter:
    when = tuple(
        replace(one, values=(*one.values, *more)) if one.name == name and value in one.values else one
        for one in parameter.when
    )
    if own and isinstance(parameter, Choice):
        return Choice((*parameter.values, *more), when)
    return replace(parameter, when=when)


def _empty(raw: object) -> FieldError:
    return FieldError(
        "space", raw, "is empty", "Search at least one parameter, e.g. adapter_size: [8, 64, 256]."
    )


def _unknown(name: object, written: object) -> FieldError | None:
    if name in PARAMETERS:
        return None
    return FieldError(str(name), written, "unknown parameter", suggest(name, PARAMETERS))


def _shape_problems(name: str, written: Mapping[object, object]) -> list[FieldError]:
    if "values" in written:
        return [
            FieldError(f"{name}.{key}", value, "unknown key beside values", suggest(key, ("values", "when")))
            for key, value in written.items()
            if key not in ("values", "when")
        ]
    keys = ("low", "high", "log", "when")
    problems = [
        FieldError(f"{name}.{key}", value, "unknown key of a range", suggest(key, keys))
        for key, value in written.items()
        if key not in keys
    ]
    missing = [key for key in ("low", "high") if key not in written]
    if missing:
        fix = "Write both ends, e.g. {low: 8, high: 256, log: true}."
        problems.append(FieldError(name, dict(written), f"a range needs {' and '.join(missing)}", fix))
    if not isinstance(written.get("log", False), bool):
        fix = "Leave it out for an even range."
        problems.append(FieldError(f"{name}.log", written["log"], "needs true or false", fix))
    return problems


def _read(name: str, written: object) -> tuple[Parameter, list[FieldError]]:
    """The parameter as written. Its values are whatever stood there, until ``_problems`` has found none."""
    when: tuple[Condition, ...] = ()
    problems: list[FieldError] = []
    if isinstance(written, Mapping):
        if "when" in written:
            when, problems = read_when(name, written["when"])
        if "values" not in written:
            return Range(written["low"], written["high"], written.get("log", False), when), problems
        written = written["values"]
    values = tuple(written) if isinstance(written, list | tuple) else (written,)
    return Choice(values, when), problems


def _write(parameter: Parameter) -> object:
    when = {condition.name: condition.written() for condition in parameter.when}
    if isinstance(parameter, Choice):
        return {"values": list(parameter.values), "when": when} if when else list(parameter.values)
    ends = {"low": parameter.low, "high": parameter.high, "log": parameter.log}
    return {**ends, "when": when} if when else ends


def _problems(name: str, parameter: Parameter) -> list[FieldError]:
    if unknown := _unknown(name, parameter):
        return [unknown]
    legal = PARAMETERS[name]
    if isinstance(parameter, Choice):
        return _choice_problems(name, legal, parameter.values)
    ends = {"low": parameter.low, "high": parameter.high}
    if not legal.is_number:
        return [FieldError(name, ends, "has no numbers to range over", f"Write a list: {legal.rule}.")]
    problems = [_illegal(f"{name}.{end}", v, legal) for end, v in ends.items() if not legal.allows(v)]
    if problems:
        return problems
    low, high = parameter.low, parameter.high
    if low > high:
        fix = f"Write the lower bound first: {{low: {high}, high: {low}}}."
        return [FieldError(name, ends, "needs low < high", fix)]
    if low == high:
        return [FieldError(name, ends, "low and high are the same", f"Write a single value: {name}: {low}.")]
    if parameter.log and low <= 0:
        fix = "Give low a small positive value, or leave log out."
        return [FieldError(name, ends, "a log range needs low > 0", fix)]
    return []


def _choice_problems(name: str, legal: Legal, values: tuple[Value, ...]) -> list[FieldError]:
    if not values:
        return [FieldError(name, [], "has no values", f"Write at least one, or leave {name} out.")]
    problems = [_illegal(name, value, legal) for value in values if not legal.allows(value)]
    if not problems and len(set(values)) < len(values):
        problems.append(FieldError(name, list(values), "has a value twice", "Keep one of each."))
    return problems


def _illegal(key: str, value: object, legal: Legal) -> FieldError:
    fix = f"Write one, at most {legal.high}." if legal.kind is int else "Write such a number."
    if not legal.is_number:
        fix = "Write true or false." if legal.kind is bool else suggest(value, legal.options)
    elif isinstance(value, str):
        fix = "Write a number, without quotes."
    elif isinstance(value, float) and legal.kind is int:
        fix = "Write it without a decimal point."
    return FieldError(key, value, f"needs {legal.rule}", fix)


def _as_floats(parameter: Parameter) -> Parameter:
    if isinstance(parameter, Choice):
        return replace(parameter, values=tuple(float(value) for value in parameter.values))
    return replace(parameter, low=float(parameter.low), high=float(parameter.high))


def _distribution(legal: Legal, parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.values)
    if legal.kind is int:
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log)


def _values_count(legal: Legal, parameter: Parameter) -> int | None:
    if isinstance(parameter, Choice):
        return len(parameter.values)
    return int(parameter.high) - int(parameter.low) + 1 if legal.kind is int else None


def _has(legal: Legal, parameter: Parameter, value: object) -> bool:
    if not legal.allows(value):
        return False
    if isinstance(parameter, Choice):
        return value in parameter.values
    return isinstance(value, int | float) and parameter.low <= value <= parameter.high
