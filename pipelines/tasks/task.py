"""What a task is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.errors import InputError, nearest, raise_problems
from pipelines.metrics import METRICS, metrics_for
from pipelines.tasks.kind import kind_of

SPLITS = ("train", "validation", "test")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Files:
    """A task's own tables: csv, tsv, jsonl, parquet, or a folder with one folder of .txt files per class.

    Paths are absolute, or ``package:NAME/PATH`` for a path inside an installed package. A split that is None
    is cut from train.
    """

    train: str
    validation: str | None = None
    test: str | None = None

    def __post_init__(self) -> None:
        _refuse_shared_splits("files", self.train, self.validation, self.test)


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A dataset on the Hugging Face Hub, or a local folder that `datasets.load_dataset` reads.

    Attributes:
        train, validation, test: the names of its splits; one that is None is cut from train.
        text: its text columns, where they are named otherwise than the task's.
        labels: the names of its integer labels, in order, where the dataset itself does not tell.
    """

    path: str
    config: str | None = None
    train: str = "train"
    validation: str | None = "validation"
    test: str | None = "test"
    revision: str | None = None
    text: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _refuse_shared_splits("hub", self.train, self.validation, self.test)


@dataclass(frozen=True)
class Source:
    """Where a split's rows lie: a file, or a dataset on the Hub. Errors name ``key``."""

    key: str
    rows: str | Hub

    @property
    def name(self) -> str:
        return self.rows.path if isinstance(self.rows, Hub) else self.rows


def _refuse_shared_splits(key: str, train: str, validation: str | None, test: str | None) -> None:
    """Selection on the test rows, or scores on trained ones, would not be noticed later."""
    seen = {train: "train"}
    for split, source in (("validation", validation), ("test", test)):
        if source in seen:
            rule = f"is what {seen[source]} is read from"
            fix = "Name other rows, or null to have it cut from train."
            raise InputError(f"{key}.{split}", source, rule, fix)
        if source is not None:
            seen[source] = split


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How a missing split is cut: fractions of the original training rows, stratified by class.

    Attributes:
        folds: how many folds the rows of train and validation are cut into, in place of a validation set.
    """

    validation: float = 0.1
    test: float = 0.1
    seed: int = 0
    folds: int | None = None

    def __post_init__(self) -> None:
        problems = [
            InputError(f"split.{key}", value, "needs a fraction between 0 and 1", "Write 0.1 for a tenth.")
            for key, value in (("validation", self.validation), ("test", self.test))
            if not 0 < value < 1
        ]
        if not problems and self.validation + self.test >= 1:
            rule = "validation and test together leave no row to train on"
            fix = "Make their sum less than 1."
            problems.append(InputError("split", (self.validation, self.test), rule, fix))
        if self.folds is not None and self.folds < 2:
            rule = "needs 2 or more: each fold is predicted by a model of the others"
            problems.append(InputError("split.folds", self.folds, rule, "Write 5, or leave it out."))
        if self.seed < 0:
            problems.append(InputError("split.seed", self.seed, "needs to be 0 or more", "Write 0."))
        raise_problems(problems)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing to learn. Checked at birth; errors name its fields, the caller knows where those stand.

    Attributes:
        name: also the name of its folders.
        text: the column of the text, or the two of a pair; a kind may have its own.
        label: the column of the labels; a kind may have its own.
        kind: one of `pipelines.kinds.KINDS`.
        metric: one of `pipelines.metrics.METRICS`, the one that chooses; "" is the kind's default.
        metrics: more that are recorded.
        positive: the label that F1 is about; without it F1 is the macro average.
        files, hub: where the rows are, if the task itself says; else see `pipelines.tasks.rows.read_task`.
        limit: the most rows of each split, by split name.
        group: the column of what stays together: rows of one group are never on both sides of a cut.
        also: further labelled sets, by file name in ``data_dir`` and split name on the Hub: scored beside the
            test set, never chosen by.

    Raises:
        InputError, InputErrors: a field that cannot be used.
    """

    name: str
    text: tuple[str, ...]
    label: str = "label"
    kind: str = "classification"
    metric: str = ""
    metrics: tuple[str, ...] = ()
    positive: str | None = None
    files: Files | None = None
    hub: Hub | None = None
    limit: Mapping[str, int] = field(default_factory=dict)
    group: str | None = None
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        raise_problems([*self._name_problems(), *self._column_problems(), *self._limit_problems()])
        kind = kind_of(self.kind)
        if not (fitting := metrics_for(self.kind)):
            fix = "Give it one with pipelines.metrics.register_metric, or name another kind."
            raise InputError("kind", self.kind, "has no metric, so nothing can choose", fix)
        object.__setattr__(self, "metric", self.metric or fitting[0])
        raise_problems([*kind.task_problems(self), *self._metric_problems()])

    @property
    def recorded_metrics(self) -> tuple[str, ...]:
        """The metric that chooses, then the others, each once."""
        return tuple(dict.fromkeys((self.metric, *self.metrics)))

    def _name_problems(self) -> list[InputError]:
        if _NAME.fullmatch(self.name) and ".." not in self.name:
            return []
        rule = "is no name: folders are called by it"
        fix = "Use 1 to 100 letters, digits, '_', '-' and single '.', with a letter or a digit first."
        return [InputError("name", self.name, rule, fix)]

    def _column_problems(self) -> list[InputError]:
        problems = []
        if len(self.text) not in (1, 2):
            fix = "Name one column, or [first, second] for pairs."
            problems.append(InputError("text", self.text, "needs one or two columns", fix))
        if len({*self.text, self.label}) != len(self.text) + 1:
            rule = f"text and label ({self.label!r}) need different columns"
            problems.append(InputError("text", self.text, rule, "Name each column once."))
        if self.files and self.hub:
            fix = "Keep one of the two."
            problems.append(InputError("hub", self.hub.path, "the task has files as well", fix))
        return problems

    def _limit_problems(self) -> list[InputError]:
        problems = [
            InputError(f"limit.{split}", rows, "not a split", nearest(split, SPLITS))
            for split, rows in self.limit.items()
            if split not in SPLITS
        ]
        problems += [
            InputError(f"limit.{split}", rows, "needs at least 1 row", "Leave it out to use all rows.")
            for split, rows in self.limit.items()
            if rows < 1
        ]
        return problems

    def _metric_problems(self) -> list[InputError]:
        fitting = metrics_for(self.kind)
        problems = [
            InputError(
                key,
                name,
                f"does not score a {self.kind}" if name in METRICS else "unknown metric",
                nearest(name, fitting),
            )
            for key, name in [("metric", self.metric), *(("metrics", name) for name in self.metrics)]
            if name not in fitting
        ]
        users = [name for name, metric in METRICS.items() if "positive" in metric.takes]
        if self.positive is not None and not {*users} & {*self.recorded_metrics}:
            rule = f"is for {' or '.join(users)}, which is not recorded"
            fix = f"Leave it out, or add {' or '.join(users)} to the metrics."
            problems.append(InputError("positive", self.positive, rule, fix))
        return problems
