"""What a job file may say under ``method`` and ``space``."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from search.job_file import LATER_VALUES, problems_in
from search.job_parts import check_some, one_or_more
from spaces import PARAMETERS, FieldError, Space, SpaceError, preset, presets
from spaces.legal import Legal

Method = Literal["adapter", "fine_tune", "top_layers", "layer_norm"]


def _differ(methods: tuple[Method, ...]) -> tuple[Method, ...]:
    if len(set(methods)) < len(methods):
        raise FieldError("", list(methods), "has a method twice", "Keep one of each.")
    return methods


def _read_spaces(written: object, info: ValidationInfo) -> dict[str, Space]:
    """The space of each method: one for all of them, or a mapping with methods as keys."""
    methods = info.data.get("methods", get_args(Method))
    if not isinstance(written, Mapping) or not _is_by_method(written):
        spaces = {method: _read_space(written, method) for method in methods}
        for method in methods:
            _check_method(method, spaces[method])
        return spaces
    problems = [
        FieldError(str(name), value, "not a method of this job", f"Methods: {', '.join(methods)}.")
        for name, value in written.items()
        if name not in methods
    ]
    spaces = {}
    for method in methods:
        if method not in written:
            problems.append(FieldError(method, None, "has no space", "Add one, e.g. default."))
            continue
        try:
            spaces[method] = _read_space(written[method], method)
            _check_method(method, spaces[method])
        except (FieldError, SpaceError) as error:
            for one in problems_in(error):
                key = method if one.key == "space" else f"{method}.{one.key}"
                problems.append(FieldError(key, one.value, one.rule, one.fix))
    if problems:
        raise SpaceError(tuple(problems))
    return spaces


def _check_method(method: str, space: Space) -> None:
    """Refuse parameters that a method does not have."""
    problems = []
    for name, _ in space.parameters:
        owners = PARAMETERS[name].methods
        if owners and method not in owners:
            rule = f"the method {method} has no such parameter"
            fix = f"It is for {', '.join(owners)}. Give each method its own space: space: {{{method}: …}}."
            problems.append(FieldError(name, space.to_dict()[name], rule, fix))
    if problems:
        raise SpaceError(tuple(problems))


def _is_by_method(written: Mapping[Any, Any]) -> bool:
    """Whether a mapping's keys are methods. top_layers is a parameter as well: its values are numbers."""
    names = {*get_args(Method), *LATER_VALUES["method"]}
    value = written.get("top_layers")
    whole = isinstance(value, str | Space) or (
        isinstance(value, Mapping) and bool({*PARAMETERS} & set(value))
    )
    return bool((names - {"top_layers"}) & set(written)) or whole


def _read_space(written: object, method: str) -> Space:
    if isinstance(written, Space):
        return written
    if written == "default" and f"default_{method}" in presets():
        return preset(f"default_{method}")
    return preset(written) if isinstance(written, str) else Space.parse(written)


def _write_spaces(spaces: dict[str, Space]) -> dict[str, Any]:
    return {method: space.to_dict() for method, space in spaces.items()}


def _value_schema(legal: Legal) -> dict[str, Any]:
    if legal.kind is bool:
        return {"type": "boolean"}
    if legal.kind is str:
        return {"enum": list(legal.options)}
    kind = "integer" if legal.kind is int else "number"
    return {"type": kind, "minimum": legal.low, "maximum": legal.high}


def _space_schema() -> dict[str, Any]:
    """JSON schema of ``space``."""
    ends = {"low": {"type": "number"}, "high": {"type": "number"}, "log": {"type": "boolean"}}
    value = {"type": ["number", "string", "boolean"]}
    above = {
        "type": "object",
        "properties": {"above": {"type": "number"}},
        "required": ["above"],
        "additionalProperties": False,
    }
    wanted = {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}, above]}
    when = {
        "description": "The parameter exists only where these others have these values.",
        "type": "object",
        "properties": dict.fromkeys(PARAMETERS, wanted),
        "additionalProperties": False,
        "minProperties": 1,
    }
    span = {
        "type": "object",
        "properties": {**ends, "when": when},
        "required": ["low", "high"],
        "additionalProperties": False,
    }
    parameters = {}
    for name, legal in PARAMETERS.items():
        one = _value_schema(legal)
        choice = {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}
        conditional = {
            "type": "object",
            "properties": {"values": {"anyOf": [one, choice]}, "when": when},
            "required": ["values"],
            "additionalProperties": False,
        }
        shapes = [one, choice, conditional, *([span] if legal.is_number else [])]
        parameters[name] = {"description": f"Each value {legal.rule}.", "anyOf": shapes}
    inline = {"type": "object", "properties": parameters, "additionalProperties": False, "minProperties": 1}
    named = {"enum": sorted(presets())}
    each = {method: {"anyOf": [named, inline]} for method in get_args(Method)}
    by_method = {"type": "object", "properties": each, "additionalProperties": False, "minProperties": 1}
    return {"anyOf": [named, inline, by_method]}


Methods = Annotated[
    tuple[Method, ...],
    AfterValidator(check_some),
    AfterValidator(_differ),
    BeforeValidator(one_or_more, json_schema_input_type=Method | tuple[Method, ...]),
]
Spaces = Annotated[
    dict[str, Space],
    PlainValidator(_read_spaces),
    PlainSerializer(_write_spaces),
    WithJsonSchema(_space_schema()),
]
