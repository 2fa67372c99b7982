"""Tokenised tasks: flat arrays that any process can map without a copy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipelines.encoder.backbone import Backbone
from pipelines.errors import InputError
from pipelines.tasks.rows import Examples, TaskData

if TYPE_CHECKING:
    from pipelines.encoder.windows import SpanQuestions
    from pipelines.towers.texts import TaskTexts

Targets: TypeAlias = "NDArray[Any] | SpanQuestions"  # what a set's outputs are scored against


@dataclass(frozen=True)
class Tokens:
    """The tokens of n texts, one after the other, special tokens included.

    Shapes: ids (total,) int32; offsets (n + 1,) int64, text i being ids[offsets[i]:offsets[i + 1]];
    types (total,) uint8, the segment of each token, or None where the tokenizer has no segments.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    types: NDArray[np.uint8] | None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per text, shape (n,)."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class EncodedTask:
    """What a trial sees of a task: training and validation examples; never the test set.

    Targets are class indices (int64) or, for regression, real numbers (float64). A span task's training
    targets are the answer's first and last token in each window, shape (windows, 2); its validation targets
    are the questions with their reference answers. `texts` are there for the method `embeddings` alone.
    """

    name: str
    kind: str  # "classification", "regression" or "span"
    metric: str  # the one that chooses
    metrics: tuple[str, ...]  # all that are recorded, `metric` first
    positive: int | None  # for a binary F1: the positive class's index
    labels: tuple[str, ...]  # class names by index; () for regression and spans
    max_tokens: int
    train: Tokens
    train_targets: NDArray[Any]
    validation: Tokens
    validation_targets: Targets
    notes: tuple[str, ...] = ()  # what the encoding could not keep, for a human
    texts: "TaskTexts | None" = None

    @property
    def outputs(self) -> int:
        """The head's width: one per class; 1 for regression; 2 for spans, of every token."""
        return 2 if self.kind == "span" else len(self.labels) or 1


def encode(texts: Sequence[tuple[str, ...]], tokenizer: Any, max_tokens: int) -> Tokens:
    """Tokenise single texts or pairs, cut to `max_tokens` (the longer text of a pair first)."""
    columns = [list(column) for column in zip(*texts, strict=True)]
    encoded = tokenizer(
        *columns, truncation="longest_first", max_length=max_tokens, return_attention_mask=False
    )
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return Tokens(
        ids=_flat(encoded["input_ids"], np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        types=_flat(encoded["token_type_ids"], np.uint8) if "token_type_ids" in encoded else None,
    )


def encode_task(data: TaskData, backbone: Backbone, max_tokens: int) -> EncodedTask:
    """Tokenise a task's training and validation examples for one backbone.

    Raises:
        InputError: the backbone cannot take texts that long.
    """
    check_max_tokens(backbone.name, backbone.tokenizer, max_tokens)
    task = data.task
    return EncodedTask(
        name=task.name,
        kind=task.kind,
        metric=task.metric,
        metrics=(task.metric, *(name for name in task.metrics if name != task.metric)),
        positive=None if task.positive is None else data.labels.index(task.positive),
        labels=data.labels,
        max_tokens=max_tokens,
        train=encode(data.train.texts, backbone.tokenizer, max_tokens),
        train_targets=data.train.labels,
        validation=encode(data.validation.texts, backbone.tokenizer, max_tokens),
        validation_targets=data.validation.labels,
    )


def encode_examples(examples: Examples, backbone: Backbone, max_tokens: int) -> Tokens:
    """Tokenise one split alone: the test set, after selection."""
    return encode(examples.texts, backbone.tokenizer, max_tokens)


def check_max_tokens(name: str, tokenizer: Any, max_tokens: int) -> None:
    """Raise InputError if the backbone `name` cannot take `max_tokens` tokens at once."""
    limit = int(tokenizer.model_max_length)
    if max_tokens > limit:
        raise InputError(
            "max_tokens", max_tokens, f"backbone {name!r} takes at most {limit}", f"Write {limit} or less."
        )


def _flat(rows: list[list[int]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.fromiter((value for row in rows for value in row), dtype=dtype)
