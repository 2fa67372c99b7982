"""Questions about a context, each answered by a piece of it, as in SQuAD v1.1."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import InputError
from pipelines.kinds.windows import SpanQuestions, check_windows, encode_questions, encode_windows
from pipelines.tasks.cuts import Cut, Indices, cut_groups, repeated_rows
from pipelines.tasks.kind import Answer, Encoded, Kind, Scale
from pipelines.tasks.span_rows import (
    SpanExample,
    SpanTable,
    drop_unanswered,
    read_span_file,
    read_span_hub,
    span_examples,
    span_problems,
)
from pipelines.tasks.task import Hub, Source, Task

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.encoder.backbone import Backbone

Split = tuple[SpanExample, ...]


class Span(Kind):
    """Learned as the first and the last token of the answer (Devlin et al. 2019, §4.2).

    Training targets are these two tokens of each window, (windows, 2); what is held out is scored by the text
    of its answers, so its targets are `SpanQuestions`. Outputs are two logits of every token.
    """

    name = "span"
    text = ("question", "context")
    label = "answers_text"
    per_token = True

    def task_problems(self, task: Task) -> list[InputError]:
        """Rows have SQuAD's columns."""
        given = [("text", task.text, self.text), ("label", task.label, self.label)]
        return [
            InputError(key, columns, f"a span task reads {wanted!r}", "Name your columns so; leave this out.")
            for key, columns, wanted in given
            if columns != wanted
        ]

    def read_file(self, path: str, task: Task, key: str) -> SpanTable:
        return read_span_file(path, key)

    def read_hub(self, hub: Hub, task: Task, key: str) -> dict[str, SpanTable]:
        return read_span_hub(hub, key)

    def row_problems(self, table: SpanTable, task: Task, source: Source) -> list[InputError]:
        return span_problems(table, source)

    def examples(self, table: SpanTable, labels: tuple[str, ...]) -> Split:
        return span_examples(table)

    def cut(self, train: Split, counts: Mapping[str, int], seed: int) -> Cut:
        """By whole articles (contexts, where rows have no title), so that no context is on two sides."""
        articles = [example.title or example.context for example in train]
        return cut_groups(articles, counts, seed, what="article")

    def take(self, split: Split, rows: Indices) -> Split:
        return tuple(split[row] for row in rows)

    def settle(self, splits: dict[str, Split], task: Task, labels: tuple[str, ...], notes: list[str]) -> None:
        drop_unanswered(splits, task, notes)
        asked = {
            name: [(example.context, example.question) for example in split] for name, split in splits.items()
        }
        notes += repeated_rows(asked)

    def texts(self, split: Split) -> Sequence[tuple[str, ...]]:
        return [(example.question, example.context) for example in split]

    def content(self, split: Split) -> list[Any]:
        return [[astuple(example) for example in split]]

    def fingerprint(self, splits: Mapping[str, Split], labels: tuple[str, ...]) -> str:
        digest = hashlib.sha256()  # without names of classes, as in the records that there are
        for name, split in splits.items():
            digest.update(json.dumps([name, *self.content(split)]).encode())
        return digest.hexdigest()

    def encode_training(self, split: Split, backbone: "Backbone", max_tokens: int, task: str) -> Encoded:
        return encode_windows(split, backbone, max_tokens, task)

    def encode_held_out(self, split: Split, backbone: "Backbone", max_tokens: int) -> Encoded:
        return encode_questions(split, backbone, max_tokens)

    def encode_texts(self, rows: Sequence[tuple[str, ...]], backbone: "Backbone", max_tokens: int) -> Encoded:
        questions = tuple(
            SpanExample(id=str(number), title="", context=context, question=question, answers=(), starts=())
            for number, (question, context) in enumerate(rows)
        )
        return encode_questions(questions, backbone, max_tokens)

    def check_encoding(self, train: Split, backbone: "Backbone", max_tokens: int, task: str) -> None:
        check_windows(train, backbone, max_tokens, task)

    def trainable(self, targets: SpanQuestions) -> tuple[Indices, NDArray[Any]]:
        """The windows of questions with an answer that is where it is said to be."""
        windows = targets.windows
        answered = np.array([bool(example.places) for example in targets.examples], dtype=bool)
        rows = np.flatnonzero(answered[windows.examples])
        return rows, np.stack([windows.starts, windows.ends], axis=1)[rows]

    def outputs(self, labels: tuple[str, ...]) -> int:
        return 2

    def loss_targets(self, targets: NDArray[Any], scale: Scale) -> "Tensor":
        import torch

        return torch.from_numpy(targets.copy()).long()

    def loss(self, outputs: "Tensor", targets: "Tensor", lengths: "Tensor | None" = None) -> "Tensor":
        """The mean of two cross entropies over a window's tokens; padding has no share.

        Shapes: outputs (windows, tokens, 2), targets (windows, 2), lengths (windows,).
        """
        import torch
        from torch.nn.functional import cross_entropy

        if lengths is not None:
            padding = torch.arange(outputs.shape[1], device=outputs.device) >= lengths[:, None]
            outputs = outputs.masked_fill(padding[..., None], -torch.inf)
        return cross_entropy(outputs, targets)

    def validation_loss(
        self, outputs: NDArray[np.float64], targets: SpanQuestions, scale: Scale
    ) -> float | None:
        """None: windows of what is held out do not each have an answer."""
        return None

    def view(self, of: str, outputs: NDArray[np.float64], targets: SpanQuestions, scale: Scale) -> list[str]:
        return {"answers": targets.answers(outputs)}[of]

    def references(self, targets: SpanQuestions) -> list[tuple[str, ...]]:
        return [example.answers for example in targets.examples]

    def answers(
        self, outputs: NDArray[np.float64], targets: SpanQuestions, labels: tuple[str, ...], scale: Scale
    ) -> list[Answer]:
        return [(answer, {}) for answer in targets.answers(outputs)]

    def describe(self, labels: tuple[str, ...]) -> str:
        return "Answers a question with a piece of a given text."

    def example(self, columns: int) -> tuple[str, ...]:
        return ("Who wrote it?", "It was written by Ada.")

    def shorten(self, text: tuple[str, ...]) -> str:
        """The question; a context is long."""
        return text[0]
