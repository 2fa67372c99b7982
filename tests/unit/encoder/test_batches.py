import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import MAX_TOKENS, tiny_tokenizer

from pipelines.encoder.batches import collate, evaluation_batches, training_batches
from pipelines.encoder.tokens import Tokens, encode

CPU = torch.device("cpu")
some_lengths = st.lists(st.integers(1, 512), min_size=1, max_size=300).map(
    lambda row: np.array(row, np.int64)
)
batch_sizes = st.integers(1, 9)
seeds = st.integers(0, 2**32 - 1)


@given(some_lengths, batch_sizes, seeds, st.integers(1, 100))
def test_an_epoch_has_every_example_once(lengths, batch_size, seed, epoch):
    batches = training_batches(lengths, batch_size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))


@given(some_lengths, batch_sizes, seeds)
def test_all_batches_but_one_are_full(lengths, batch_size, seed):
    sizes = sorted(len(batch) for batch in training_batches(lengths, batch_size, seed=seed, epoch=1))
    full, rest = divmod(len(lengths), batch_size)
    assert sizes == ([rest] if rest else []) + [batch_size] * full


@given(some_lengths, batch_sizes, seeds)
def test_batches_are_a_function_of_seed_and_epoch(lengths, batch_size, seed):
    np.random.seed(0)
    first = training_batches(lengths, batch_size, seed=seed, epoch=3)
    np.random.seed(1)
    again = training_batches(lengths.copy(), batch_size, seed=seed, epoch=3)
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in again]


def test_epochs_and_seeds_differ_in_their_batches_not_only_in_their_order():
    lengths = np.random.default_rng(0).integers(5, 200, 500)
    made = {
        (seed, epoch): {
            frozenset(batch.tolist()) for batch in training_batches(lengths, 8, seed=seed, epoch=epoch)
        }
        for seed in (0, 1)
        for epoch in (1, 2, 3)
    }
    keys = list(made)
    for index, one in enumerate(keys):
        for other in keys[:index]:
            assert len(made[one] & made[other]) < 5, (one, other)


def test_examples_of_one_length_are_shuffled_too():
    batches = training_batches(np.full(100, 7), 10, seed=0, epoch=1)
    assert np.concatenate(batches).tolist() != list(range(100))


def test_batches_do_not_come_in_order_of_length():
    """Short texts first would be a curriculum that nobody asked for."""
    lengths = np.random.default_rng(0).integers(5, 200, 500)
    means = [lengths[batch].mean() for batch in training_batches(lengths, 16, seed=0, epoch=1)]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.5


def padding(lengths, batches):
    padded = sum(lengths[batch].max() * len(batch) for batch in batches)
    return 1 - lengths.sum() / padded


@pytest.mark.parametrize("seed", range(5))
def test_like_lengths_spare_most_of_the_padding(seed):
    """Lengths as of real texts: log-normal. Against batches of the same size from a plain shuffle."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(3.2, 0.7, 4000).astype(np.int64), 3, 256)
    shuffled = np.array_split(rng.permutation(4000), 125)
    ours = training_batches(lengths, 32, seed=seed, epoch=1)
    assert padding(lengths, shuffled) > 0.5
    assert padding(lengths, ours) < padding(lengths, shuffled) / 3


@given(some_lengths, batch_sizes)
def test_evaluation_has_every_example_once_longest_first(lengths, batch_size):
    batches = evaluation_batches(lengths, batch_size)
    order = np.concatenate(batches)
    assert sorted(order) == list(range(len(lengths)))
    assert lengths[order].tolist() == sorted(lengths, reverse=True)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= batch_size


def tokens_of(texts, types=None):
    """The texts of this list of lists of ids."""
    return Tokens(
        ids=np.array([token for text in texts for token in text], np.int32),
        offsets=np.cumsum([0, *map(len, texts)]),
        types=None if types is None else np.array([t for row in types for t in row], np.uint8),
    )


def test_collate_pads_to_the_longest_of_the_batch():
    tokens = tokens_of([[5, 6], [7, 8, 9, 10, 11], [12, 13, 14]], [[0, 1], [0] * 5, [0, 1, 1]])
    batch = collate([(tokens, np.array([2, 0]))], pad_id=99, device=CPU)
    assert batch.input_ids.tolist() == [[12, 13, 14], [5, 6, 99]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.token_type_ids.tolist() == [[0, 1, 1], [0, 1, 0]]
    assert {t.dtype for t in (batch.input_ids, batch.attention_mask, batch.token_type_ids)} == {torch.int64}


def test_collate_without_segments_has_none():
    assert (
        collate([(tokens_of([[1], [2, 3]]), np.array([0, 1]))], pad_id=0, device=CPU).token_type_ids is None
    )


texts = st.lists(st.lists(st.integers(0, 30_000), min_size=1, max_size=20), min_size=1, max_size=12)


@given(texts, st.data())
def test_collate_gives_back_every_text_by_its_mask(ids, data):
    chosen = data.draw(st.lists(st.integers(0, len(ids) - 1), min_size=1, max_size=8))
    batch = collate([(tokens_of(ids), np.array(chosen))], pad_id=0, device=CPU)
    assert batch.input_ids.shape == (len(chosen), max(len(ids[index]) for index in chosen))
    for row, mask, index in zip(batch.input_ids, batch.attention_mask, chosen, strict=True):
        assert row[mask.bool()].tolist() == ids[index]
        assert mask.tolist() == sorted(mask.tolist(), reverse=True)  # padding on the right


def test_encoded_texts_are_what_the_tokenizer_says():
    tokenizer = tiny_tokenizer()
    rows = [("my screen is black",), ("",), ("The BOSS xyzzy!",)]
    encoded = encode(rows, tokenizer, MAX_TOKENS)
    assert len(encoded) == 3
    assert encoded.lengths.tolist()[:2] == [6, 2]
    for index, (text,) in enumerate(rows):
        ids = encoded.ids[encoded.offsets[index] : encoded.offsets[index + 1]]
        assert ids.tolist() == tokenizer(text)["input_ids"]


def test_an_encoded_pair_is_one_sequence_with_two_segments():
    encoded = encode([("good day", "bad night today")], tiny_tokenizer(), MAX_TOKENS)
    tokens = tiny_tokenizer().convert_ids_to_tokens(encoded.ids.tolist())
    assert tokens == ["[CLS]", "good", "day", "[SEP]", "bad", "night", "today", "[SEP]"]
    assert encoded.types.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_long_pair_loses_tokens_of_its_longer_text():
    encoded = encode([("good " * 30, "bad bad bad")], tiny_tokenizer(), 12)
    words = tiny_tokenizer().convert_ids_to_tokens(encoded.ids.tolist())
    assert len(words) == 12
    assert words.count("bad") == 3
    assert words.count("good") == 6
