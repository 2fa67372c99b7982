"""One trial's work: tasks, data, backbone, adapters, training, bundles; nothing of Ray, Optuna or MLflow.

from pipelines import AdapterBundle
AdapterBundle.load("adapters/tickets").predict(["my screen is black"])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pipelines.kinds
import pipelines.methods  # noqa: F401 - and its method in the table that this fills

if TYPE_CHECKING:
    from pipelines.bundle import AdapterBundle
    from pipelines.config import TrainConfig
    from pipelines.encoder.backbone import load_backbone
    from pipelines.errors import BundleError, InputError, InputErrors, PipelineError
    from pipelines.packs.training import Training
    from pipelines.tasks.encoded import encode_task
    from pipelines.tasks.rows import read_task
    from pipelines.tasks.task import Task

__all__ = [
    "AdapterBundle",
    "BundleError",
    "InputError",
    "InputErrors",
    "PipelineError",
    "Task",
    "TrainConfig",
    "Training",
    "encode_task",
    "load_backbone",
    "read_task",
]

_HOMES = {
    "AdapterBundle": "bundle",
    "BundleError": "errors",
    "InputError": "errors",
    "InputErrors": "errors",
    "PipelineError": "errors",
    "Task": "tasks.task",
    "TrainConfig": "config",
    "Training": "packs.training",
    "encode_task": "tasks.encoded",
    "load_backbone": "encoder.backbone",
    "read_task": "tasks.rows",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: torch takes seconds, reading a job file does without."""
    if name not in _HOMES:
        raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
    return getattr(import_module(f"pipelines.{_HOMES[name]}"), name)
