"""Read a job file, and turn all that is wrong with a job into problems."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

from pipelines.errors import InputError, InputErrors
from search.errors import JobError, Problem
from spaces.errors import FieldError, SpaceError, suggest

QUOTED = re.compile(r"'([^']*)'")
# A job of 300 tasks has some 50,000 characters and 9,000 values, six deep.
MOST_CHARACTERS, MOST_VALUES, MOST_DEPTH = 500_000, 50_000, 20

Location = tuple[int | str, ...]


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The mapping in a file of YAML 1.2 (``3e-5`` is a number, ``yes`` is text); no key may come twice.

    Raises:
        JobError: there is no such file, it is not YAML (with line and column), or no mapping; or it is
            larger than any job (see `MOST_VALUES`), which is known before it is built.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MOST_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        rule = error.strerror if isinstance(error, OSError) and error.strerror else "is not UTF-8 text"
        raise _file_error(path, str(path), f"cannot be read: {rule}", "Name a readable YAML file.") from error
    if len(text) > MOST_CHARACTERS:
        raise _too_large(path, f"has more than {MOST_CHARACTERS:,} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReusedAnchorWarning)  # the later one counts, as YAML has it
            _check_size(path, text)
            raw = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        raise _mark_error(path, text, error) from error
    except (YAMLError, ValueError, RecursionError) as error:
        rule = f"is not YAML: {str(error).splitlines()[0]}"
        raise _file_error(path, str(path), rule, "Correct it; docs/job-file.md has an example.") from error
    if raw is None:
        raise _file_error(path, str(path), "is empty", "Give at least name, backbone and tasks.")
    if not isinstance(raw, Mapping):
        raise _file_error(path, raw, "needs keys and values", "Start with e.g. name: support-tickets.")
    return raw


def _check_size(path: Path, text: str) -> None:
    """Refuse what is deeper or has more values than any job once its aliases are written out.

    Ten lines of aliases can stand for more values than memory holds. Here they are counted, not built.
    """
    values, anchors = 0, dict[str, tuple[int, int]]()  # an anchor's values, and how deep they go
    levels: list[tuple[str | None, int, int]] = [(None, 0, 0)]  # open: anchor, values before it, depth below
    for event in YAML(typ="safe", pure=True).parse(text):
        match event:
            case CollectionEndEvent():
                anchor, before, depth = levels.pop()
                depth += 1
                if anchor:
                    anchors[anchor] = (values - before, depth)
            case AliasEvent():
                if any(anchor == event.anchor for anchor, _, _ in levels):
                    raise _too_large(path, f"has an alias *{event.anchor} inside of what it stands for")
                count, depth = anchors.get(event.anchor, (1, 1))
                values += count
            case CollectionStartEvent():
                anchors.pop(event.anchor, None)
                levels.append((event.anchor, values, 0))
                values, depth = values + 1, 0
            case ScalarEvent():
                if event.anchor:
                    anchors[event.anchor] = (1, 1)
                values, depth = values + 1, 1
            case _:
                continue
        anchor, before, below = levels[-1]
        levels[-1] = (anchor, before, max(below, depth))
        if values > MOST_VALUES:
            raise _too_large(path, f"has more than {MOST_VALUES:,} values, aliases written out")
        if len(levels) + depth > MOST_DEPTH:
            raise _too_large(path, f"is nested more than {MOST_DEPTH} deep")


def _too_large(path: Path, rule: str) -> JobError:
    return _file_error(
        path, str(path), rule, "Write a smaller job, or several; docs/job-file.md has an example."
    )


def _file_error(path: Path, value: object, rule: str, fix: str) -> JobError:
    return JobError(str(path), [Problem("file", value, rule, fix)])


def _mark_error(path: Path, text: str, error: MarkedYAMLError) -> JobError:
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines()
    here = lines[mark.line].strip() if mark.line < len(lines) else ""
    problem = str(error.problem or error.context).partition(" with value ")[0]
    fix = (
        "Keep one of the two."
        if "duplicate key" in problem
        else "Correct the YAML on this line or before it."
    )
    return JobError(
        str(path), [Problem(f"line {mark.line + 1}, column {mark.column + 1}", here, problem, fix)]
    )


def problems_of(error: ValidationError, model: type[BaseModel], raw: object) -> list[Problem]:
    """All that pydantic and the validators found, with keys as in ``raw``, which is what the user wrote."""
    problems: list[Problem] = []
    for details in error.errors(include_url=False):
        key = dotted(_as_written(details["loc"], raw))
        cause = details.get("ctx", {}).get("error")
        if cause is not None:
            problems.extend(
                Problem(_join(key, one.key), one.value, one.rule, one.fix) for one in problems_in(cause)
            )
        else:
            rule, fix = _explain(details, model)
            value = None if details["type"] == "missing" else details["input"]
            problems.append(Problem(key or "job", value, rule, fix))
    return problems


def problems_in(error: Exception) -> tuple[FieldError | InputError, ...]:
    """What a validator raised, one by one."""
    match error:
        case SpaceError() | InputErrors():
            return error.problems
        case FieldError() | InputError():
            return (error,)
        case _:
            raise error


def dotted(location: Location) -> str:
    """``("tasks", 1, "files")`` is ``tasks[1].files``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _as_written(location: Location, raw: object) -> Location:
    """Cut a location where the user wrote one value for what is a list or a mapping inside."""
    for depth, part in enumerate(location):
        if isinstance(raw, str):
            return location[:depth]
        if isinstance(raw, Mapping):
            raw = raw.get(part)
        elif isinstance(raw, list | tuple) and isinstance(part, int):
            raw = raw[part]
    return location


def _join(key: str, inner: str) -> str:
    """The key of an error that a validator raised at ``key``: it may repeat the end of it, or be empty."""
    head, _, last = key.rpartition(".")
    if not inner or inner == last:
        return key
    if inner.startswith(f"{last}."):
        return f"{head}.{inner}".removeprefix(".")
    return f"{key}.{inner}"


def _explain(details: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    """Rule and fix of one of pydantic's own errors."""
    error, value, context = details["type"], details["input"], details.get("ctx", {})
    fields, field = _fields_at(model, details["loc"])
    name = str(details["loc"][-1]) if details["loc"] else ""
    if error in ("extra_forbidden", "invalid_key"):
        return "unknown key", suggest(name, fields)
    if error == "missing":
        example = f", e.g. {name}: {field.examples[0]}" if field and field.examples else ""
        return "required key is missing", f"Add it{example}."
    if error == "literal_error":
        return "unknown value", suggest(value, QUOTED.findall(context["expected"]))
    if error == "model_type":
        return "needs keys and values", f"Known keys: {', '.join(sorted(fields))}."
    if error == "string_type" and isinstance(value, list | tuple | Mapping):
        return "needs text", "Write one value."
    if error == "greater_than_equal":
        return f"needs {context['ge']:g} or more", f"Write {context['ge']:g}."
    if error == "less_than_equal":
        return f"needs {context['le']} or less", f"Write {context['le']}."
    known_rule = _RULES.get(error)
    return known_rule or (details["msg"], "See docs/job-file.md.")


_RULES = {
    "string_type": ("needs text", "Put it in quotes."),
    "int_type": ("needs a whole number", "Write it without quotes or a decimal point."),
    "float_type": ("needs a number", "Write it without quotes."),
    "finite_number": ("needs a finite number", "Write a number."),
    "tuple_type": ("needs a list", "Write it as [first, second]."),
    "string_too_short": ("is empty", "Write a value, or leave the key out."),
}


def _fields_at(model: type[BaseModel], location: Location) -> tuple[dict[str, FieldInfo], FieldInfo | None]:
    """The known fields where a location ends, by their key in the file, and the field that it names."""
    fields, field = _fields(model), None
    for part in location:
        if isinstance(part, str) and (field := fields.get(part)):
            inner = _model_in(field.annotation)
            fields = _fields(inner) if inner else fields
    return fields, field


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(argument) for argument in get_args(annotation))
    return next((model for model in inner if model), None)
