"""Names that a job file takes from the tables of kinds, metrics, samplers and schedulers."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.config import JsonDict

from pipelines.errors import nearest
from pipelines.kinds import KINDS
from pipelines.metrics import METRICS
from search.decisions.samplers import SAMPLERS
from search.decisions.schedulers import SCHEDULERS
from spaces.errors import FieldError, suggest


def _known_in(table: Mapping[str, Any], rule: str) -> AfterValidator:
    """Refuses a name that a table lacks; it is looked up when a job is read, whoever registered it."""

    def check(name: str) -> str:
        if name not in table:
            raise FieldError("", name, rule, nearest(name, table))
        return name

    return AfterValidator(check)


def _one_of(table: Mapping[str, Any]) -> BeforeValidator:
    """Refuses what is no name in a table, of whatever type it is."""

    def check(value: Any) -> Any:
        if not isinstance(value, str) or value not in table:
            raise FieldError("", value, "unknown value", suggest(value, table))
        return value

    return BeforeValidator(check)


def _names_of(table: Mapping[str, Any]) -> Callable[[JsonDict], None]:
    return lambda schema: schema.update(enum=[*table])


KindName = Annotated[str, _known_in(KINDS, "unknown value"), Field(json_schema_extra=_names_of(KINDS))]
Metric = Annotated[str, _known_in(METRICS, "unknown metric"), Field(json_schema_extra=_names_of(METRICS))]
SamplerName = Annotated[str, _one_of(SAMPLERS), Field(json_schema_extra=_names_of(SAMPLERS))]
SchedulerName = Annotated[str, _one_of(SCHEDULERS), Field(json_schema_extra=_names_of(SCHEDULERS))]
