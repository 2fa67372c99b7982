"""What a job file may say under ``method`` and ``space``."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
)
from pydantic.json_schema import JsonSchemaValue

from pipelines.method import METHODS
from search.job.file import problems_in
from search.job.values import check_some, one_or_more
from spaces import PARAMETERS, FieldError, Space, SpaceError, preset, presets
from spaces.errors import suggest
from spaces.legal import Legal

EMBEDDING = "embedding"  # the parameter whose values may be names of the job's vectors


def _check_known(name: str) -> str:
    if name not in METHODS:
        raise FieldError("", name, "unknown value", suggest(name, METHODS))
    return name


def _differ(methods: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(methods)) < len(methods):
        raise FieldError("", list(methods), "has a method twice", "Keep one of each.")
    return methods


def _read_spaces(written: object, info: ValidationInfo) -> dict[str, Space]:
    """The space of each method: one for all of them, or a mapping with methods as keys."""
    methods = info.data.get("methods", tuple(METHODS))
    vectors: Mapping[str, str] = info.data.get("vectors", {})
    if not isinstance(written, Mapping) or not _is_by_method(written):
        spaces = {method: _read_space(written, method, vectors) for method in methods}
        for method in methods:
            _check_method(method, spaces[method], vectors, shared=len(methods) > 1)
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
            spaces[method] = _read_space(written[method], method, vectors)
            _check_method(method, spaces[method], vectors, shared=False)
        except (FieldError, SpaceError) as error:
            for one in problems_in(error):
                key = method if one.key == "space" else f"{method}.{one.key}"
                problems.append(FieldError(key, one.value, one.rule, one.fix))
    if problems:
        raise SpaceError(tuple(problems))
    return spaces


def _has(method: str, name: str) -> bool:
    owners = PARAMETERS[name].methods
    return not owners or method in owners


def _parameters_of(method: str) -> str:
    return ", ".join(name for name in PARAMETERS if _has(method, name))


def _check_method(method: str, space: Space, vectors: Collection[str], *, shared: bool) -> None:
    """Refuse parameters that a method does not have, and embeddings that the job does not.

    A ``shared`` space is for all of several methods.
    """
    problems = []
    for name, _ in space.parameters:
        if not _has(method, name):
            rule = f"the method {method} has no such parameter"
            fix = f"It is for {', '.join(PARAMETERS[name].methods)}. "
            if shared:
                fix += f"Give each method its own space: space: {{{method}: …}}."
            else:
                fix += f"{method} has {_parameters_of(method)}."
            problems.append(FieldError(name, space.to_dict()[name], rule, fix))
        elif name == EMBEDDING:
            problems += _embedding_problems(space, vectors)
    if problems:
        raise SpaceError(tuple(problems))


def _embedding_problems(space: Space, vectors: Collection[str]) -> list[FieldError]:
    """Embeddings that are neither the encoder's own nor under `vectors`; vectors that are not searched."""
    own, values = PARAMETERS[EMBEDDING].options, space.values(EMBEDDING)
    problems = [
        FieldError(EMBEDDING, value, "no such embedding", suggest(value, (*own, *vectors)))
        for value in values
        if value not in (*own, *vectors)
    ]
    if not problems and (unused := [name for name in vectors if name not in values]):
        fix = "Add it, or take it out of vectors."
        problems.append(FieldError(EMBEDDING, list(values), f"lacks the job's vectors {unused[0]!r}", fix))
    return problems


def _is_by_method(written: Mapping[Any, Any]) -> bool:
    """Whether a mapping's keys are methods. One may be a parameter as well, whose values are no spaces."""
    return any(
        key in METHODS and (key not in PARAMETERS or _is_space(value)) for key, value in written.items()
    )


def _is_space(written: object) -> bool:
    if isinstance(written, Mapping):
        return not PARAMETERS.keys().isdisjoint(written)
    return isinstance(written, str | Space)


def _read_space(written: object, method: str, vectors: Collection[str]) -> Space:
    """A space as written; where a method reads word vectors, the job's are part of a preset as well."""
    if isinstance(written, Space):
        return written
    if not isinstance(written, str):
        return Space.parse(written)
    own = f"default_{method}"
    space = preset(own if written == "default" and own in presets() else written)
    if written == "default" and not all(_has(method, name) for name, _ in space.parameters):
        fix = f"Write its space, of {_parameters_of(method)}: space: {{{method}: {{…}}}}."
        raise FieldError("space", written, f"the method {method} has no default space", fix)
    return space.beside(EMBEDDING, "token_table", tuple(vectors)) if METHODS[method].reads_vectors else space


def _write_spaces(spaces: dict[str, Space]) -> dict[str, Any]:
    return {method: space.to_dict() for method, space in spaces.items()}


def _value_schema(legal: Legal) -> dict[str, Any]:
    if legal.kind is bool:
        return {"type": "boolean"}
    if legal.kind is str:
        return {"type": "string", "minLength": 1} if legal.open else {"enum": list(legal.options)}
    kind = "integer" if legal.kind is int else "number"
    return {"type": kind, "minimum": legal.low, "maximum": legal.high}


def space_schema() -> tuple[dict[str, Any], dict[str, Any]]:
    """JSON schema of ``space``, and the definitions that it refers to by "#/$defs/NAME"."""
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
        "properties": {name: {"$ref": "#/$defs/Wanted"} for name in PARAMETERS},
        "additionalProperties": False,
        "minProperties": 1,
    }
    span = {
        "type": "object",
        "properties": {**ends, "when": {"$ref": "#/$defs/When"}},
        "required": ["low", "high"],
        "additionalProperties": False,
    }
    parameters = {}
    for name, legal in PARAMETERS.items():
        one = _value_schema(legal)
        choice = {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}
        conditional = {
            "type": "object",
            "properties": {"values": {"anyOf": [one, choice]}, "when": {"$ref": "#/$defs/When"}},
            "required": ["values"],
            "additionalProperties": False,
        }
        shapes = [one, choice, conditional, *([{"$ref": "#/$defs/Span"}] if legal.is_number else [])]
        parameters[name] = {"description": f"Each value {legal.rule}.", "anyOf": shapes}
    inline = {"type": "object", "properties": parameters, "additionalProperties": False, "minProperties": 1}
    named = {"enum": sorted(presets())}
    one_space = [named, {"$ref": "#/$defs/Space"}]
    each = {method: {"anyOf": one_space} for method in METHODS}
    by_method = {"type": "object", "properties": each, "additionalProperties": False, "minProperties": 1}
    return {"anyOf": [*one_space, by_method]}, {"Wanted": wanted, "When": when, "Span": span, "Space": inline}


def _method_schema() -> dict[str, Any]:
    """JSON schema of ``method``."""
    one = {"enum": list(METHODS)}
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}]}


@dataclass(frozen=True)
class _SchemaOf:
    """The JSON schema of a type, made when it is asked for: the tables that it lists may have grown."""

    make: Callable[[], JsonSchemaValue]

    def __get_pydantic_json_schema__(self, _: Any, __: Any) -> JsonSchemaValue:
        return self.make()


Methods = Annotated[
    tuple[Annotated[str, AfterValidator(_check_known)], ...],
    AfterValidator(check_some),
    AfterValidator(_differ),
    BeforeValidator(one_or_more),
    _SchemaOf(_method_schema),
]
Spaces = Annotated[
    dict[str, Space],
    PlainValidator(_read_spaces),
    PlainSerializer(_write_spaces),
    _SchemaOf(dict),  # `job_schema` has it: pydantic takes no references that are not its own
]
