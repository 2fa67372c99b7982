from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_tokenizer

from pipelines.errors import InputError
from pipelines.kinds.windows import decode_spans, encode_spans
from pipelines.tasks.span_rows import SpanExample

CONTEXT = (
    "Under the old law the Minister paid 5,000 (five thousand) to each family. After the war, the new "
    "government in the city closed its bank; the River Police, as they were called, lost their homes. "
    "People in the country thought that this was the end of the state: they were wrong, and it went on."
)
ANSWERS = ("5,000", "the River Police", "it went on", "Under the old law", "five thousand", "bank")


def ask(answer, *, context=CONTEXT, question="Who was it?", start=None):
    place = context.index(answer) if start is None else start
    return SpanExample(
        id="q", title="t", context=context, question=question, answers=(answer,), starts=(place,)
    )


EXAMPLES = [ask(answer) for answer in ANSWERS]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def oracle(windows):
    """Logits of a model that knows: high at the answer's first and last token, in windows that hold it."""
    starts, ends = np.zeros(len(windows.tokens.ids)), np.zeros(len(windows.tokens.ids))
    for window in np.flatnonzero(windows.starts):
        starts[windows.tokens.offsets[window] + windows.starts[window]] = 5
        ends[windows.tokens.offsets[window] + windows.ends[window]] = 5
    return starts, ends


@pytest.mark.parametrize(("max_tokens", "stride"), [(512, None), (64, None), (40, 18), (24, 8), (30, 0)])
def test_answers_come_back_from_windows_of_any_size(tokenizer, max_tokens, stride):
    windows = encode_spans(EXAMPLES, tokenizer, max_tokens, stride)
    assert windows.tokens.lengths.max() <= max_tokens
    answered = [index for index in range(len(EXAMPLES)) if windows.starts[windows.examples == index].any()]
    assert len(answered) == len(EXAMPLES) - windows.unanswered
    found = decode_spans(windows, *oracle(windows), EXAMPLES)
    assert [found[index] for index in answered] == [ANSWERS[index] for index in answered]
    if stride != 0:  # neighbours share more than the longest answer has
        assert windows.unanswered == 0


def test_windows_cover_the_context_and_share_what_they_are_asked_to(tokenizer):
    (example,) = EXAMPLES[:1]
    whole = encode_spans([example], tokenizer, 512)
    assert len(whole) == 1
    tokens = whole.characters[whole.characters[:, 0] >= 0].tolist()
    windows = encode_spans([example], tokenizer, 40, 10)
    pieces = np.split(windows.characters, windows.tokens.offsets[1:-1])
    pieces = [piece[piece[:, 0] >= 0].tolist() for piece in pieces]
    assert len(pieces) > 2
    assert [*pieces[0], *(token for piece in pieces[1:] for token in piece[10:])] == tokens
    for left, right in pairwise(pieces):
        assert left[-10:] == right[:10]


def test_a_window_without_the_whole_answer_points_at_its_first_token(tokenizer):
    windows = encode_spans([ask("it went on")], tokenizer, 40, 10)
    assert windows.starts[-1] > 0
    assert not windows.starts[:-1].any()
    assert not windows.ends[:-1].any()
    assert (windows.tokens.ids[windows.tokens.offsets[:-1]] == tokenizer.cls_token_id).all()


def test_tokens_of_the_question_have_no_place_in_the_context(tokenizer):
    windows = encode_spans([ask("bank", question="the bank?")], tokenizer, 512)
    assert windows.characters[: 1 + 3 + 1].max() == -1
    assert windows.characters[-1].tolist() == [-1, -1]
    assert windows.starts[0] > 5
    assert windows.tokens.types[: 1 + 3 + 1].max() == 0
    assert windows.tokens.types[5:].min() == 1


def test_an_answer_longer_than_any_window_is_counted(tokenizer):
    windows = encode_spans([ask(CONTEXT), ask("bank")], tokenizer, 40, 10)
    assert windows.unanswered == 1
    assert not windows.starts[windows.examples == 0].any()


def test_an_answer_that_is_not_where_it_is_said_to_be_is_no_target(tokenizer):
    assert encode_spans([ask("bank", start=3), ask("bank")], tokenizer, 512).unanswered == 1


def test_an_answer_inside_a_word_gets_the_tokens_it_touches(tokenizer):
    windows = encode_spans([ask("overnmen")], tokenizer, 512)
    assert decode_spans(windows, *oracle(windows), [ask("overnmen")]) == ["government"]


def test_white_space_around_an_answer_has_no_token(tokenizer):
    example = ask("  the end ", context="  the end of it")
    windows = encode_spans([example], tokenizer, 512)
    assert decode_spans(windows, *oracle(windows), [example]) == ["the end"]


def test_a_long_question_leaves_room_for_the_context(tokenizer):
    windows = encode_spans([ask("bank", question="why " * 500)], tokenizer, 64)
    context = [
        np.sum(piece[:, 0] >= 0) for piece in np.split(windows.characters, windows.tokens.offsets[1:-1])
    ]
    assert min(context[:-1]) >= 30
    assert windows.unanswered == 0


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_the_best_span_is_the_best_of_all_that_are_short_enough(seed, most):
    windows = encode_spans(EXAMPLES[:2], tiny_tokenizer(), 40, 10)
    starts, ends = np.random.default_rng(seed).normal(size=(2, len(windows.tokens.ids)))
    best = [(-np.inf, "")] * 2
    for window in range(len(windows)):
        places = range(windows.tokens.offsets[window], windows.tokens.offsets[window + 1])
        inside = [place for place in places if windows.characters[place, 0] >= 0]
        for first in inside:
            for last in (place for place in inside if first <= place < first + most):
                text = CONTEXT[windows.characters[first, 0] : windows.characters[last, 1]]
                owner = windows.examples[window]
                best[owner] = max(best[owner], (starts[first] + ends[last], text))
    found = decode_spans(windows, starts, ends, EXAMPLES[:2], max_answer_tokens=most)
    assert found == [text for _, text in best]


def test_no_span_runs_from_one_window_into_the_next(tokenizer):
    windows = encode_spans(EXAMPLES[:1], tokenizer, 24, 8)
    starts, ends = np.zeros((2, len(windows.tokens.ids)))
    boundary = windows.tokens.offsets[1]
    inside = np.flatnonzero(windows.characters[:, 0] >= 0)
    starts[inside[inside < boundary].max()] = 5
    ends[inside[inside > boundary].min()] = 5
    first, last = windows.characters[[inside[inside < boundary].max(), inside[inside > boundary].min()]]
    (found,) = decode_spans(windows, starts, ends, EXAMPLES[:1])
    assert found in (CONTEXT[first[0] : first[1]], CONTEXT[last[0] : last[1]])


@pytest.mark.parametrize(
    ("starts", "ends"), [(np.zeros(3), np.zeros(3)), (np.full(60, np.nan), np.zeros(60))]
)
def test_logits_that_do_not_fit_are_refused(tokenizer, starts, ends):
    windows = encode_spans([ask("the end", context="the end of it")], tokenizer, 512)
    with pytest.raises(ValueError, match="one for each token"):
        decode_spans(windows, starts[: len(windows.tokens.ids)], ends, [])


@pytest.mark.parametrize(
    ("max_tokens", "stride", "message"),
    [
        (4, None, "max_tokens = 4: leaves no room for a question and a context. Write 128 or more."),
        (64, 31, "stride = 31: windows of 64 tokens have room for 31 of the context, and would not move on."),
        (64, -1, "Write 0 to 30."),
    ],
)
def test_windows_that_cannot_be_are_refused(tokenizer, max_tokens, stride, message):
    with pytest.raises(InputError) as caught:
        encode_spans(EXAMPLES, tokenizer, max_tokens, stride)
    assert message in str(caught.value)


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(InputError, match="its tokenizer gives no offsets"):
        encode_spans(EXAMPLES, object(), 64)
