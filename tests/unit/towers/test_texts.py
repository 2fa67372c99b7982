import numpy as np
import pytest
import torch
from embeddings import EITHER, toy_vectors
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_tokenizer

from pipelines.encoder.tokens import encode, framing_tokens
from pipelines.methods import EMBEDDINGS
from pipelines.towers.bags import Bags, bags_of, distinct, pool
from pipelines.towers.texts import offsets_of, read_text, read_texts, split_words

READINGS = sorted(EMBEDDINGS.readings(EITHER))
TOKENIZER = tiny_tokenizer(do_lower_case=False)


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        ((False, False), "Don't PANIC: 3.14_x Ünïcode!"),
        ((True, False), "don't panic: 3.14_x ünïcode!"),
        ((False, True), "Don t PANIC  3 14 x Ünïcode "),
        ((True, True), "don t panic  3 14 x ünïcode "),
    ],
)
def test_a_text_is_lower_cased_and_stripped_of_all_but_letters_and_digits(reading, expected):
    assert read_text("Don't PANIC: 3.14_x Ünïcode!", reading) == expected


def test_words_are_runs_of_letters_and_single_marks():
    assert split_words("Good, don't!! 42") == ["Good", ",", "don", "'", "t", "!", "!", "42"]


def test_each_reading_has_its_own_tokens():
    rows = [("Good day!",), ("good day",)]
    texts = read_texts(rows, TOKENIZER, 16, readings=READINGS, vectors={})
    for reading in READINGS:
        (tokens,) = texts.tokens[reading]
        assert list(tokens.ids) == list(
            encode([(read_text(t, reading),) for (t,) in rows], TOKENIZER, 16).ids
        )
    (both,) = texts.tokens[True, True]
    first, second = np.split(both.ids, both.offsets[1:-1])
    assert list(first) == list(second)


def test_words_without_a_vector_are_left_out_and_texts_are_cut():
    vectors = toy_vectors()
    texts = read_texts(
        [("the good the BAD",), ("",), ("bad good",)],
        TOKENIZER,
        4,
        readings=[(False, False), (True, False)],
        vectors={"glove": vectors},
    )
    (plain,) = texts.words["glove", (False, False)]
    assert [vectors.words[row] for row in plain.ids] == ["good", "bad", "good"]
    assert list(plain.lengths) == [1, 0, 2]
    (lower,) = texts.words["glove", (True, False)]
    assert list(lower.lengths) == [2, 0, 2]
    (short,) = read_texts(
        [("good good good",)], TOKENIZER, 2, readings=[(True, True)], vectors={"glove": vectors}
    ).words["glove", (True, True)]
    assert list(short.lengths) == [2]


def test_the_columns_of_a_pair_are_read_each_by_itself():
    texts = read_texts([("good", "bad day"), ("a", "")], TOKENIZER, 16, readings=[(True, True)], vectors={})
    left, right = (bags_of(tokens, framing_tokens(TOKENIZER)) for tokens in texts.tokens[True, True])
    assert (list(left.lengths), list(right.lengths)) == ([1, 1], [2, 0])


def test_the_unknown_word_is_a_word_of_a_text():
    framing = framing_tokens(TOKENIZER)
    assert TOKENIZER.unk_token_id not in framing
    assert {TOKENIZER.cls_token_id, TOKENIZER.sep_token_id, TOKENIZER.pad_token_id} <= {*framing}


# Bags

lists = st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=6)


def bags(rows):
    return Bags(
        np.array([row for own in rows for row in own], dtype=np.int64), offsets_of([len(own) for own in rows])
    )


def unpack(made):
    return [list(own) for own in np.split(made.rows, made.offsets[1:-1])]


@given(lists, st.data())
def test_bags_are_lists_of_rows(rows, data):
    made = bags(rows)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1))), dtype=np.int64)
    assert unpack(made.take(chosen)) == [rows[index] for index in chosen] or len(chosen) == 0
    assert unpack(made.keep(made.rows % 2 == 0)) == [[r for r in own if r % 2 == 0] for own in rows]
    known = np.array(sorted(data.draw(st.sets(st.integers(0, 9)))), dtype=np.int64)
    places = {row: place for place, row in enumerate(known)}
    assert unpack(made.within(known)) == [[places[r] for r in own if r in places] for own in rows]


@given(lists)
def test_a_wide_bag_has_each_row_once_and_tells_the_columns_apart(rows):
    assert unpack(distinct([bags(rows)], 10)) == [sorted({*own}) for own in rows]
    turned = rows[::-1]
    expected = [sorted({*own} | {10 + row for row in other}) for own, other in zip(rows, turned, strict=True)]
    assert unpack(distinct([bags(rows), bags(turned)], 10)) == expected


@given(lists)
def test_pooling_sums_and_averages_and_gives_zeros_for_nothing(rows):
    table = torch.arange(30.0).reshape(10, 3)
    for mode in ("sum", "mean"):
        found = pool(bags(rows), table, mode)
        for own, values in zip(rows, found, strict=True):
            expected = getattr(table[own], mode)(0) if own else torch.zeros(3)
            torch.testing.assert_close(values, expected)


def test_padding_keeps_each_texts_rows_in_front():
    padded, lengths = bags([[5, 6], [], [7, 8, 9]]).padded(np.array([2, 0, 1]))
    assert padded.tolist() == [[7, 8, 9], [5, 6, 0], [0, 0, 0]]
    assert lengths.tolist() == [3, 2, 0]
