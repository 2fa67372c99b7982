"""The kinds of tasks, a module each. A new one is a class and its line here, or `register_kind` elsewhere."""

from pipelines.kinds.classification import Classification
from pipelines.kinds.regression import Regression
from pipelines.kinds.span import Span
from pipelines.tasks.kind import KINDS, Kind, kind_of, register_kind

__all__ = ["KINDS", "Kind", "kind_of", "register_kind"]

register_kind(Classification())
register_kind(Regression())
register_kind(Span())
