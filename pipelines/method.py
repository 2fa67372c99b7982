"""What a method is: all that depends on what a trial trains, in one object.

`pipelines.methods` has the table. Nothing outside it and the rooms of its rows (`packs`, `towers`) looks at
which method a trial has. Free of torch: job files, records and reports ask here as well.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

from pipelines.config import Config
from pipelines.errors import InputError, nearest
from pipelines.results import EpochResult

if TYPE_CHECKING:  # torch takes seconds to import
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pipelines.encoder.backbone import Backbone
    from pipelines.encoder.prefix import PrefixCache
    from pipelines.epochs import TrainingState
    from pipelines.tasks.encoded import EncodedTask
    from pipelines.tasks.kind import Kind, Targets
    from pipelines.tasks.rows import TaskData

HeldOut: TypeAlias = Any  # a set of texts in the form that a method's model reads
Vectors: TypeAlias = Mapping[str, Any]  # `towers.vectors.WordVectors` by the names that a job has
Outputs: TypeAlias = "Callable[[HeldOut], NDArray[np.float64]]"  # a finished trial's model: (n, outputs)
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Training(Protocol):
    """One configuration on one task. `run` trains; between epochs `state` and `restore` save and go on."""

    @property
    def config(self) -> Config: ...

    @property
    def epochs(self) -> list[EpochResult]: ...

    @property
    def outputs(self) -> "NDArray[np.float64] | None":
        """The head's outputs for the validation set after the last epoch; None before one has ended here."""

    @property
    def finished(self) -> bool: ...

    @property
    def trained_parameters(self) -> int: ...

    def run(self) -> Iterator[EpochResult]: ...

    def state(self) -> "TrainingState": ...

    def restore(self, state: "TrainingState") -> None: ...


class TrainedModel(Protocol):
    """A model out of a bundle."""

    def read(
        self, rows: Sequence[tuple[str, ...]], *, precision: str
    ) -> "tuple[NDArray[np.float64], Targets]":
        """The head's outputs for texts or pairs, and what the task's kind needs beside them for answers."""


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A row of the table.

    Attributes:
        name: as job files and records have it.
        card: what the model card says that the bundle is: with a capital, and whose idea it is.
        label, legend: what tables and figures of a report call it.
        colour, marker: of its curves: `#RRGGBB`, and one of matplotlib's markers. Together its own.
        size: the parameter that says how much of the method's own trains; None: there is no such choice.
        keeps: what is kept to use it for many tasks: one encoder for all beside what each trained; an
            encoder for each; or none at all.
        whole_weights: whether weights of the encoder itself train: from their full precision.
        packed: whether its trials can train in a host on a GPU, side by side where they share a pass.
        reads_vectors: whether its spaces name word vectors of the job.
        removable: whether it puts adapters into layers, which an analysis can take out again.
        seeded: whether a training depends on its seed, so that it is worth being run again with another one.
        reads_places: whether its outputs can be of every token, as kinds need that ask for places in a text.
    """

    name: str
    card: str
    label: str
    legend: str
    colour: str
    marker: str
    size: str | None = None
    keeps: Literal["one encoder", "encoders", "no encoder"] = "one encoder"
    whole_weights: bool = False
    packed: bool = True
    reads_vectors: bool = False
    removable: bool = False
    seeded: bool = True
    reads_places: bool = True

    @property
    @abstractmethod
    def sizeless(self) -> Collection[str]:
        """The parameters that decide how is trained, not how much."""

    @abstractmethod
    def config(self, params: Mapping[str, Any], *, seed: int) -> Config:
        """A trial's configuration; raises TypeError for a parameter that the method does not have."""

    @abstractmethod
    def config_from_dict(self, raw: Mapping[str, Any]) -> Config:
        """The configuration that `to_dict` wrote; raises TypeError for fields that it does not have."""

    @abstractmethod
    def epochs(self, params: Mapping[str, Any]) -> int:
        """The epochs that a trial with these parameters is to train."""

    def vectors_of(self, config: Config) -> tuple[str, ...]:
        """The names of the word vectors that a configuration reads."""
        return ()

    def check_data(self, data: "TaskData") -> None:
        """Raise InputError for a task that the method cannot learn."""
        if data.rules.per_token and not self.reads_places:
            kind = data.task.kind
            rule = f"task {data.task.name!r} asks for {kind}s, and it sees no places in a text"
            fix = f"Give {kind} tasks a job of their own, without it."
            raise InputError("method", self.name, rule, fix)

    def prepare(
        self,
        task: "EncodedTask",
        data: "TaskData",
        backbone: "Backbone",
        *,
        searched: Mapping[str, Collection[object]],
        vectors: Vectors,
    ) -> "EncodedTask":
        """An encoded task with what trials of the method read beside its tokens; in the driver, once a job.

        Args:
            searched: what a trial may have of each parameter that is chosen from a list; None among them: the
                trial may be without. A parameter that is not there is in no trial.

        Raises:
            InputError: as `check_data`.
        """
        return task

    @abstractmethod
    def count_trained(
        self, backbone: "Backbone", config: Any, *, outputs: int, columns: int, vectors: Vectors
    ) -> int:
        """How many parameters train.

        Args:
            outputs: the head's width.
            columns: 1, or 2 for pairs.

        Raises:
            InputError: the configuration does not fit the backbone, or names vectors that are not there.
        """

    @abstractmethod
    def make_training(
        self,
        backbone: "Backbone",
        task: "EncodedTask",
        config: Any,
        *,
        pooling: str,
        precision: str,
        vectors: Vectors,
        cache: "PrefixCache | None" = None,
        fused: bool = False,
    ) -> Training:
        """The training of a configuration, not begun. Raises InputError if it does not fit.

        Args:
            fused: on a GPU, by compiled kernels, where the method has some.
        """

    @abstractmethod
    def encode_held_out(
        self, data: "TaskData", backbone: "Backbone", max_tokens: int, config: Any, vectors: Vectors
    ) -> "dict[str, tuple[HeldOut, Targets]]":
        """Encode, after selection, what no search has seen, for the winner's configuration.

        Returns the test set as "test", and a task's further labelled sets by their names; each with what its
        outputs are scored against.
        """

    @abstractmethod
    def open_trained(
        self,
        backbone: "Backbone",
        task: "EncodedTask",
        config: Any,
        parameters: "Mapping[str, Tensor]",
        *,
        pooling: str,
        precision: str,
        vectors: Vectors,
    ) -> Outputs:
        """The model of a finished trial.

        Args:
            parameters: `TrainingState.best`.
            precision: resolved.
        """

    def bundle_tensors(
        self, config: Any, parameters: "Mapping[str, Tensor]", vectors: Vectors
    ) -> "dict[str, Tensor]":
        """What a bundle holds of a finished trial: what it trained, and all else that its model needs."""
        return {**parameters}

    @abstractmethod
    def different_tensors(
        self,
        backbone: "Backbone",
        config: Any,
        tensors: "Mapping[str, Tensor]",
        *,
        outputs: int,
        columns: int,
    ) -> list[str]:
        """The names of a bundle's tensors that are missing, of another shape than its configuration needs, or
        too many. Nothing is allocated: sizes are only claimed so far.
        """

    @abstractmethod
    def open_bundle(
        self,
        backbone: "Backbone",
        config: Any,
        tensors: "Mapping[str, Tensor]",
        *,
        outputs: int,
        rules: "Kind",
        pooling: str,
        max_tokens: int,
    ) -> TrainedModel:
        """The model of a bundle, of whose tensors `different_tensors` has nothing to say.

        Args:
            rules: of the task's kind.
        """


_METHODS: dict[str, Method] = {}
METHODS: Mapping[str, Method] = MappingProxyType(_METHODS)  # by name, in the order of registration
Row = TypeVar("Row", bound=Method)


def register(method: Row) -> Row:
    """Add a row to the table.

    Raises:
        ValueError: the name is taken, or no name; a word is missing; it looks like another in figures.
    """
    if method.name in _METHODS:
        raise ValueError(f"method {method.name!r} is registered twice; rename one of them")
    if not _NAME.fullmatch(method.name):
        raise ValueError(f"method {method.name!r}: folders are called by it; use a-z, 0-9 and '_'")
    lacking = [word for word in ("card", "label", "legend", "marker") if not getattr(method, word)]
    if lacking:
        raise ValueError(f"method {method.name!r} has no {' and no '.join(lacking)}")
    if not re.fullmatch(r"#[0-9A-Fa-f]{6}", method.colour):
        raise ValueError(f"method {method.name!r}: colour {method.colour!r} is not #RRGGBB")
    for other in _METHODS.values():
        if (other.colour, other.marker) == (method.colour, method.marker):
            raise ValueError(f"methods {other.name!r} and {method.name!r} look alike; change one's marker")
    _METHODS[method.name] = method
    return method


def adopt(methods: Iterable[Method]) -> None:
    """Add the rows that this process lacks: a worker's, of methods that its driver has from elsewhere."""
    for method in methods:
        if method.name not in _METHODS:
            register(method)


def find_method(name: object) -> Method:
    """The row of a name. Raises InputError, naming the nearest one, where there is none."""
    if not isinstance(name, str) or name not in _METHODS:
        raise InputError("method", name, "unknown method", nearest(str(name), _METHODS))
    return _METHODS[name]


def config_from_dict(raw: Mapping[str, Any]) -> Config:
    """The configuration that `to_dict` wrote.

    Raises:
        TypeError: it has fields that its method does not have.
        InputError: its method is not in the table.
    """
    return find_method(raw.get("method")).config_from_dict(raw)


def epochs_of(params: Mapping[str, Any], *, method: str) -> int:
    """The epochs that a trial is to train; of a method that is unknown here, what its parameters say."""
    row = _METHODS.get(method)
    return int(params.get("epochs", 1)) if row is None else row.epochs(params)
