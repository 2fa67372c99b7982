"""Parameters that exist only for some values of others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from spaces.errors import FieldError, suggest

Value = int | float | str | bool
WHEN_FIX = "Write e.g. when: {first_layer: [0, 1]}, or when: {first_layer: {above: 0}}."


@dataclass(frozen=True)
class Condition:
    """Holds where a parameter exists and has one of the values; or, if there is a bound, a value above it."""

    name: str
    values: tuple[Value, ...] = ()
    above: int | float | None = None

    def holds(self, params: Mapping[str, object]) -> bool:
        """Whether it holds in a configuration."""
        if self.name not in params:
            return False
        value = params[self.name]
        if self.above is None:
            return any(_same(value, one) for one in self.values)
        return isinstance(value, int | float) and value > self.above

    def written(self) -> object:
        """As it stands under ``when``."""
        if self.above is not None:
            return {"above": self.above}
        return list(self.values)


def read_when(name: str, raw: object) -> tuple[tuple[Condition, ...], list[FieldError]]:
    """The conditions in a parameter's ``when``, all of which have to hold, and what is wrong with it."""
    key = f"{name}.when"
    if not isinstance(raw, Mapping) or not raw:
        return (), [FieldError(key, raw, "needs parameters and their values", WHEN_FIX)]
    conditions, problems = [], []
    for other, wanted in raw.items():
        if isinstance(wanted, Mapping):
            above = wanted.get("above")
            if set(wanted) != {"above"} or type(above) not in (int, float):
                problems.append(FieldError(f"{key}.{other}", dict(wanted), "needs a number above", WHEN_FIX))
            else:
                conditions.append(Condition(str(other), above=above))
            continue
        values = tuple(wanted) if isinstance(wanted, list | tuple) else (wanted,)
        if not values or any(type(value) not in (int, float, str, bool) for value in values):
            problems.append(FieldError(f"{key}.{other}", wanted, "needs a value, or a list", WHEN_FIX))
        else:
            conditions.append(Condition(str(other), values))
    return tuple(conditions), problems


def check_conditions(
    conditions: Mapping[str, Sequence[Condition]], values: Mapping[str, tuple[Value, ...] | None]
) -> list[FieldError]:
    """What is wrong with a space's conditions as a whole.

    Args:
        conditions: by the parameter that has them; every parameter of the space.
        values: each parameter's values; None for a range.
    """
    problems = []
    for name, needed in conditions.items():
        for condition in needed:
            key, other = f"{name}.when.{condition.name}", condition.name
            if other not in conditions:
                fix = suggest(other, set(conditions) - {name})
                problems.append(FieldError(key, condition.written(), "no parameter of this space", fix))
                continue
            known = values[other]
            if condition.above is not None:
                continue
            if known is None:
                rule = "is a range, so no value of it comes up for certain"
                problems.append(FieldError(key, condition.written(), f"{other} {rule}", "Use above."))
            elif lost := [value for value in condition.values if not _among(value, known)]:
                listed = ", ".join(str(value) for value in known)
                rule = f"{other} never has the value {lost[0]!r}"
                problems.append(FieldError(key, condition.written(), rule, f"Its values: {listed}."))
    if not problems and (circle := _find_circle(conditions)):
        rule = f"depends on itself: {' -> '.join(circle)}"
        problems.append(FieldError(f"{circle[0]}.when", circle[1], rule, "Take one of the conditions away."))
    return problems


def sort_by_need(conditions: Mapping[str, Sequence[Condition]]) -> Iterator[str]:
    """The parameters in such an order that each comes after those that its conditions name."""
    left = dict(conditions)
    while left:
        free = [name for name, needed in left.items() if not any(one.name in left for one in needed)]
        yield from free
        for name in free:
            del left[name]


def _among(value: Value, known: tuple[Value, ...]) -> bool:
    return any(_same(value, one) for one in known)


def _same(one: object, other: object) -> bool:
    """Whether two values are the same one: 1 is 1.0, but not true."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _find_circle(conditions: Mapping[str, Sequence[Condition]]) -> list[str]:
    for start in conditions:
        trail, at = [start], [one.name for one in conditions[start]]
        seen: set[str] = set()
        while at:
            name = at.pop()
            if name == start:
                return [*trail, start]
            if name not in seen:
                seen.add(name)
                trail.append(name)
                at += [one.name for one in conditions[name]]
    return []
