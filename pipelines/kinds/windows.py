"""Span extraction: contexts in overlapping windows, and spans back to text."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.encoder.tokens import Tokens
from pipelines.errors import InputError
from pipelines.tasks.kind import Encoded
from pipelines.tasks.span_rows import SpanExample

if TYPE_CHECKING:
    from pipelines.encoder.backbone import Backbone

MAX_QUESTION_TOKENS = 64  # as the authors of BERT cut questions
MAX_ANSWER_TOKENS = 30
_BATCH = 1000  # examples tokenised at once, which bounds the memory that takes


@dataclass(frozen=True)
class SpanWindows:
    """Questions with pieces of their contexts, window after window; an example's windows are neighbours.

    Attributes:
        tokens: one text per window: the question, then the piece.
        starts, ends: shape (windows,) int32: the first and last token of the answer, counted within the
            window; both 0 (the first token, CLS) where the window does not hold the whole answer.
        examples: shape (windows,) int32: whose context it is.
        characters: shape (total tokens, 2) int32: each token's [start, end) in its example's context;
            (-1, -1) for tokens that are not of the context.
        unanswered: examples with no window that holds the whole answer.
    """

    tokens: Tokens
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    examples: NDArray[np.int32]
    characters: NDArray[np.int32]
    unanswered: int

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class SpanQuestions:
    """Questions in windows, with their reference answers: what a span head's outputs are scored against.

    Outputs have the shape (total tokens, 2): each token's logits as the first and as the last of the answer,
    in the order of ``windows.tokens.ids``.
    """

    windows: SpanWindows
    examples: tuple[SpanExample, ...]

    def answers(self, outputs: NDArray[np.float64]) -> list[str]:
        """The answer to each question, as `decode_spans` finds it."""
        return decode_spans(self.windows, outputs[:, 0], outputs[:, 1], self.examples)


def encode_questions(examples: Sequence[SpanExample], backbone: "Backbone", max_tokens: int) -> Encoded:
    """Tokenise questions for one backbone; targets are `SpanQuestions`. Raises as `encode_spans`."""
    windows = encode_spans(examples, backbone.tokenizer, max_tokens)
    return Encoded(
        windows.tokens, SpanQuestions(windows, tuple(examples)), _lost(windows, examples, max_tokens)
    )


def encode_windows(
    examples: Sequence[SpanExample], backbone: "Backbone", max_tokens: int, task: str
) -> Encoded:
    """Tokenise training questions for one backbone; targets (windows, 2) are the answer's two tokens.

    Raises:
        InputError: as `encode_spans`; or no window holds an answer.
    """
    windows = encode_spans(examples, backbone.tokenizer, max_tokens)
    if windows.unanswered == len(examples):
        raise _no_answer(task, max_tokens)
    targets = np.stack([windows.starts, windows.ends], axis=1)
    return Encoded(windows.tokens, targets, _lost(windows, examples, max_tokens))


def check_windows(examples: Sequence[SpanExample], backbone: "Backbone", max_tokens: int, task: str) -> None:
    """Refuse windows that are too short for a task, as `encode_windows` does, without encoding all of it.

    Raises:
        InputError: too few tokens for a question and a context, or for any of the 100 shortest answers.
    """
    lengths = [end - start for start, end in (example.places[0] for example in examples)]
    shortest = [examples[index] for index in np.argsort(lengths, kind="stable")[:100]]
    if encode_spans(shortest, backbone.tokenizer, max_tokens).unanswered == len(shortest):
        raise _no_answer(task, max_tokens)


def _lost(windows: SpanWindows, examples: Sequence[SpanExample], max_tokens: int) -> tuple[str, ...]:
    if not windows.unanswered:
        return ()
    count = f"{windows.unanswered} of {len(examples)} questions"
    return (f"{count} have no window of {max_tokens} tokens with all of their answer",)


def _no_answer(task: str, max_tokens: int) -> InputError:
    rule = f"{task}: no window of so many tokens holds a whole answer"
    return InputError("max_tokens", max_tokens, rule, "Write more, or check that the answers are short.")


def encode_spans(
    examples: Sequence[SpanExample], tokenizer: Any, max_tokens: int, stride: int | None = None
) -> SpanWindows:
    """Tokenise questions and contexts; a long context becomes several windows.

    Targets are the example's first answer that is where it is said to be. Questions are cut to 64 tokens, or
    to half of the room there is.

    Args:
        tokenizer: a fast one, for its offsets.
        max_tokens: of a window, question and special tokens included.
        stride: context tokens that neighbouring windows share; None: 128, or half of a window's room.

    Raises:
        InputError: too few tokens for a question and a context, or windows that would not move on.
    """
    if not getattr(tokenizer, "is_fast", False):
        fix = "Use a backbone with a tokenizer.json."
        raise InputError("backbone", type(tokenizer).__name__, "its tokenizer gives no offsets", fix)
    specials = int(tokenizer.num_special_tokens_to_add(pair=True))
    question_tokens = min(MAX_QUESTION_TOKENS, (max_tokens - specials) // 2)
    room = max_tokens - specials - question_tokens  # of the context, with the longest question
    if room < 2:
        rule = "leaves no room for a question and a context"
        raise InputError("max_tokens", max_tokens, rule, "Write 128 or more.")
    stride = min(128, room // 2) if stride is None else stride
    if not 0 <= stride < room:
        rule = f"windows of {max_tokens} tokens have room for {room} of the context, and would not move on"
        raise InputError("stride", stride, rule, f"Write 0 to {room - 1}.")

    ids, types, characters, lengths, owners, targets = [], [], [], [], [], []
    for first in range(0, len(examples), _BATCH):
        batch = examples[first : first + _BATCH]
        encoded = tokenizer(
            _cut([example.question for example in batch], tokenizer, question_tokens),
            [example.context for example in batch],
            truncation="only_second",
            max_length=max_tokens,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        for window, owner in enumerate(encoded["overflow_to_sample_mapping"]):
            spans = np.array(encoded["offset_mapping"][window], dtype=np.int32)
            spans[[part != 1 for part in encoded.sequence_ids(window)]] = -1
            ids.append(np.array(encoded["input_ids"][window], dtype=np.int32))
            if "token_type_ids" in encoded:
                types.append(np.array(encoded["token_type_ids"][window], dtype=np.uint8))
            characters.append(spans)
            lengths.append(len(spans))
            owners.append(first + owner)
            targets.append(_target(spans, batch[owner]))
    answered = {owner for owner, target in zip(owners, targets, strict=True) if target != (0, 0)}
    return SpanWindows(
        tokens=Tokens(
            ids=np.concatenate(ids or [np.empty(0, np.int32)]),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            types=np.concatenate(types) if types else None,
        ),
        starts=np.array([start for start, _ in targets], dtype=np.int32),
        ends=np.array([end for _, end in targets], dtype=np.int32),
        examples=np.array(owners, dtype=np.int32),
        characters=np.concatenate(characters or [np.empty((0, 2), np.int32)]),
        unanswered=len(examples) - len(answered),
    )


def decode_spans(
    windows: SpanWindows,
    start_logits: NDArray[np.floating[Any]],
    end_logits: NDArray[np.floating[Any]],
    examples: Sequence[SpanExample],
    *,
    max_answer_tokens: int = MAX_ANSWER_TOKENS,
) -> list[str]:
    """The answer to each question: the text of its context between the best pair of a start and an end.

    The best over all of an example's windows and all spans of at most ``max_answer_tokens`` context tokens,
    by the sum of the two logits. Every such span is looked at, so there is no list of n best to choose from.

    Args:
        start_logits, end_logits: shape (total tokens,), in the order of ``windows.tokens.ids``.

    Raises:
        ValueError: other shapes, or logits that are not numbers.
    """
    count = len(windows.tokens.ids)
    for logits in (start_logits, end_logits):
        if logits.shape != (count,) or np.isnan(logits).any():
            raise ValueError(f"logits need {count} numbers, one for each token; got {logits.shape}")
    of_context = windows.characters[:, 0] >= 0
    starts = np.where(of_context, start_logits, -np.inf).astype(np.float64)
    ends = np.where(of_context, end_logits, -np.inf).astype(np.float64)
    owner = np.repeat(np.arange(len(windows)), windows.tokens.lengths)
    best, last = np.full(count, -np.inf), np.arange(count)
    for more in range(min(max_answer_tokens, count)):  # tokens after the first
        together = owner[: count - more] == owner[more:]
        scores = np.where(together, starts[: count - more] + ends[more:], -np.inf)
        better = scores > best[: count - more]
        best[: count - more][better] = scores[better]
        last[: count - more][better] = np.flatnonzero(better) + more

    bounds = np.searchsorted(windows.examples, np.arange(len(examples) + 1))
    answers = []
    for example, (low, high) in zip(examples, pairwise(bounds), strict=True):
        first, end = windows.tokens.offsets[low], windows.tokens.offsets[high]
        if first == end or np.isneginf(best[first:end]).all():
            answers.append("")
            continue
        token = int(first + best[first:end].argmax())
        answers.append(example.context[windows.characters[token, 0] : windows.characters[last[token], 1]])
    return answers


def _cut(questions: list[str], tokenizer: Any, most: int) -> list[str]:
    """Questions up to their token ``most``."""
    encoded = tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True)
    return [
        question[: spans[most - 1][1]] if len(spans) > most else question
        for question, spans in zip(questions, encoded["offset_mapping"], strict=True)
    ]


def _target(spans: NDArray[np.int32], example: SpanExample) -> tuple[int, int]:
    """The first and last token that have characters of the answer; (0, 0) if it is not all in the window."""
    context = np.flatnonzero(spans[:, 0] >= 0)
    if not example.places or not len(context):
        return 0, 0
    start, end = example.places[0]
    start = end - len(example.context[start:end].lstrip())  # white space has no token
    end = start + len(example.context[start:end].rstrip())
    firsts, lasts = spans[context, 0], spans[context, 1]
    if start < firsts[0] or end > lasts[-1]:
        return 0, 0
    first = int(np.searchsorted(lasts, start, side="right"))
    last = int(np.searchsorted(firsts, end, side="left")) - 1
    return int(context[first]), int(context[max(first, last)])
