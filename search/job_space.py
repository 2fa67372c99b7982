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
from spaces.space import LATER

Method = Literal["adapter"]


def _differ(methods: tuple[Method, ...]) -> tuple[Method, ...]:
    if len(set(methods)) < len(methods):
        raise FieldError("", list(methods), "has a method twice", "Keep one of each.")
    return methods


def _read_spaces(written: object, info: ValidationInfo) -> dict[str, Space]:
    """The space of each method: one for all of them, or a mapping with methods as keys."""
    methods = info.data.get("methods", get_args(Method))
    names = {*get_args(Method), *LATER_VALUES["method"]} - {*LATER}  # top_layers is a parameter as well
    if not isinstance(written, Mapping) or not names & set(written):
        return dict.fromkeys(methods, _read_space(written))
    problems = [
        FieldError(str(name), value, "not a method of this job", f"Methods: {', '.join(methods)}.")
        for name, value in written.items()
        if name not in methods
    ]
    spaces: dict[str, Space] = {}
    for method in methods:
        if method not in written:
            problems.append(FieldError(method, None, "has no space", "Add one, e.g. default."))
            continue
        try:
            spaces[method] = _read_space(written[method])
        except (FieldError, SpaceError) as error:
            for one in problems_in(error):
                key = method if one.key == "space" else f"{method}.{one.key}"
                problems.append(FieldError(key, one.value, one.rule, one.fix))
    if problems:
        raise SpaceError(tuple(problems))
    return spaces


def _read_space(written: object) -> Space:
    if isinstance(written, Space):
        return written
    return preset(written) if isinstance(written, str) else Space.parse(written)


def _write_spaces(spaces: dict[str, Space]) -> dict[str, Any]:
    return {method: space.to_dict() for method, space in spaces.items()}


def _space_schema() -> dict[str, Any]:
    """JSON schema of ``space``."""
    ends = {"low": {"type": "number"}, "high": {"type": "number"}, "log": {"type": "boolean"}}
    span = {"type": "object", "properties": ends, "required": ["low", "high"], "additionalProperties": False}
    parameters = {}
    for name, legal in PARAMETERS.items():
        number = {
            "type": "integer" if legal.kind is int else "number",
            "minimum": legal.low,
            "maximum": legal.high,
        }
        choice = {"type": "array", "items": number, "minItems": 1, "uniqueItems": True}
        parameters[name] = {"description": f"Each value {legal.rule}.", "anyOf": [number, choice, span]}
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
