"""Texts side by side without padding: each token once, with its own trial's parameters and masks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from places import three_places
from tiny import tiny_backbone, toy_task
from torch.utils._python_dispatch import TorchDispatchMode

from pipelines.config import TrainConfig
from pipelines.encoder.batches import step_key
from pipelines.encoder.tokens import Tokens
from pipelines.packs.batches import Part, flat_batch, flat_cargo, padded_batch, unpack
from pipelines.packs.layout import TILE, cut_groups
from pipelines.packs.model import Occupant, PackModel

CPU = torch.device("cpu")
FLAT = ("bert", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta")
LENGTHS = st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=12), min_size=1, max_size=4)


def texts(lengths, first=5):
    """Texts of these lengths; every token is another number."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Tokens(np.arange(first, first + offsets[-1], dtype=np.int32), offsets, None)


def parts_of(lengths):
    return [Part(place, texts(own), np.arange(len(own))) for place, own in enumerate(lengths)]


def spans_of(lengths):
    return [replace(part, spans=True) for part in parts_of(lengths)]


@given(LENGTHS)
def test_every_token_stands_once_in_a_tile_of_its_place(lengths):
    batch, layout = flat_batch(parts_of(lengths), pad_id=0, device=CPU)
    flat = layout.flat
    real = flat.texts.real.view(-1, TILE)
    for place, own in enumerate(lengths):
        tiles = flat.tiles == place
        tokens = texts(own)
        assert batch.input_ids[tiles][real[tiles]].tolist() == tokens.ids.tolist()
        numbers = np.repeat(np.arange(len(own)), own)
        assert flat.numbers[tiles][real[tiles]].tolist() == numbers.tolist()
        positions = np.concatenate([np.arange(length) for length in own])
        assert batch.positions[tiles][real[tiles]].tolist() == positions.tolist()


@given(LENGTHS)
def test_a_place_has_less_than_a_tile_of_padding(lengths):
    batch, _ = flat_batch(parts_of(lengths), pad_id=0, device=CPU)
    assert batch.input_ids.numel() < sum(sum(own) + TILE for own in lengths)


@given(LENGTHS)
def test_attention_s_groups_hold_every_text_once_and_lead_back(lengths):
    batch, layout = flat_batch(parts_of(lengths), pad_id=0, device=CPU)
    groups = layout.flat.texts
    ids = batch.input_ids.flatten()
    grouped = ids[groups.grouped]
    real = groups.real.flatten()
    assert torch.equal(grouped[groups.located][real], ids[real])
    assert int(groups.attended.sum()) == int(real.sum()) == sum(map(sum, lengths))
    sizes = [mask.numel() for mask in groups.masks]
    found = [
        (int(place), ids_of[mask_of].tolist())
        for mask, part, places in zip(
            groups.masks,
            grouped.split(sizes),
            groups.texts.places.split([len(mask) for mask in groups.masks]),
            strict=True,
        )
        for mask_of, ids_of, place in zip(mask, part.view(mask.shape), places, strict=True)
    ]
    expected = [
        (place, texts(own).ids[texts(own).offsets[i] : texts(own).offsets[i + 1]].tolist())
        for place, own in enumerate(lengths)
        for i in range(len(own))
    ]
    assert sorted(found) == sorted(expected)


@given(LENGTHS)
def test_padding_stands_for_tokens_of_its_own_place(lengths):
    """What is not a number in one trial must not reach another, not even multiplied by zero."""
    _, layout = flat_batch(parts_of(lengths), pad_id=0, device=CPU)
    flat, groups = layout.flat, layout.flat.texts
    place_of_token = flat.tiles.repeat_interleave(TILE)
    place_of_grouped = torch.cat(
        [
            places[:, None].expand(mask.shape).flatten()
            for mask, places in zip(
                groups.masks, groups.texts.places.split([len(mask) for mask in groups.masks]), strict=True
            )
        ]
    )
    assert torch.equal(place_of_token[groups.grouped], place_of_grouped)
    assert torch.equal(place_of_grouped[groups.located], place_of_token)


@given(st.lists(st.integers(1, 512), min_size=1, max_size=300), st.integers(1, 5))
def test_groups_cost_no_more_than_one_and_none_has_a_single_text(lengths, groups):
    lengths = np.sort(np.array(lengths))[::-1]
    ends = cut_groups(lengths, groups)
    assert ends == sorted(set(ends))
    assert ends[-1] == len(lengths)
    starts = [0, *ends[:-1]]
    cost = sum((end - start) * lengths[start] for start, end in zip(starts, ends, strict=True))
    assert lengths.sum() <= cost <= len(lengths) * lengths[0]
    assert len(lengths) < 2 or all(end - start >= 2 for start, end in zip(starts, ends, strict=True))


@pytest.mark.filterwarnings("ignore:grad and param do not obey")
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("model_type", FLAT)
def test_flat_and_padded_batches_give_the_same_outputs_and_gradients(model_type, pooling):
    backbone = tiny_backbone(model_type)
    occupants, parts = three_places(toy_task(rows=24, validation_rows=8).train)
    found = []
    for make in (padded_batch, flat_batch):
        torch.manual_seed(0)
        model = PackModel(backbone, occupants, pooling=pooling).train()
        with torch.no_grad():
            model.bank.values.normal_(std=0.1)
        model.masks.begin(torch.tensor([step_key(1, place) for place in range(3)], dtype=torch.int32))
        batch, layout = make(parts, pad_id=backbone.pad_id, device=CPU)
        outputs = [own[: len(part.indices)] for own, part in zip(model(batch, layout), parts, strict=True)]
        sum(own.square().sum() for own in outputs).backward()
        found.append((outputs, model.bank.gradients))
    (padded, padded_gradients), (flat, flat_gradients) = found
    for own, other in zip(padded, flat, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded_gradients, flat_gradients, rtol=1e-3, atol=1e-4)


@given(LENGTHS)
def test_segments_hold_every_token_once_and_texts_as_they_are(lengths):
    _, layout = flat_batch(parts_of(lengths), pad_id=0, device=CPU, fused=True)
    flat, segments = layout.flat, layout.flat.texts
    place_of_token = flat.tiles.repeat_interleave(TILE)
    seen = torch.zeros(len(flat.tiles) * TILE, dtype=torch.int64)
    found = []
    for start, length, place, number in zip(
        segments.starts, segments.lengths, segments.texts.places, segments.texts.numbers, strict=True
    ):
        own = slice(int(start), int(start + length))
        seen[own] += 1
        assert length == 0 or place_of_token[own].unique().tolist() == [int(place)]
        found.append((int(place), int(number), int(length)))
    assert seen.eq(1).all()
    texts_of = [(place, i, length) for place, own in enumerate(lengths) for i, length in enumerate(own)]
    assert found[: len(texts_of)] == texts_of


@given(LENGTHS)
def test_blocks_hold_every_segment_once(lengths):
    _, layout = flat_batch(parts_of(lengths), pad_id=0, device=CPU, fused=True)
    segments = layout.flat.texts
    held = [
        (int(of), int(number) * segments.block)
        for of, number in zip(segments.blocks, segments.block_numbers, strict=True)
        if segments.lengths[of]
    ]
    expected = [
        (of, start)
        for of, length in enumerate(segments.lengths.tolist())
        for start in range(0, length, segments.block)
    ]
    assert sorted(held) == sorted(expected)


@given(LENGTHS, LENGTHS)
def test_batches_of_as_many_tiles_and_rows_have_arrays_of_the_same_sizes(one, other):
    cargos = [flat_cargo(parts_of(own), pad_id=0, fused=True, room=1) for own in (one, other)]
    told = [
        (len(cargo.arrays["tiles"]), len(cargo.arrays["first"]), cargo.places, cargo.block)
        for cargo in cargos
    ]
    assert (told[0] == told[1]) == (cargos[0].shape == cargos[1].shape)


@given(LENGTHS, LENGTHS, st.integers(20, 24))
def test_with_room_places_have_as_many_texts_and_those_that_read_tokens_lines_as_long(one, other, room):
    cargos = [flat_cargo(spans_of(own), pad_id=0, fused=True, room=room) for own in (one, other)]
    for cargo, lengths in zip(cargos, (one, other), strict=True):
        assert len(cargo.arrays["first"]) == room * len(lengths)
        for place, own in enumerate(lengths):
            where = cargo.arrays["span", place]
            assert where.shape == (room, -(-max(map(max, lengths)) // TILE) * TILE)
            for number, length in enumerate(own):
                assert cargo.arrays["numbers"][where[number, :length]].tolist() == [number] * length
                assert cargo.arrays["positions"][where[number, :length]].tolist() == list(range(length))


@given(LENGTHS)
def test_rounding_adds_an_eighth_of_the_tiles_at_most(lengths):
    exact, rounded = (
        len(flat_cargo(parts_of(lengths), pad_id=0, fused=True, room=own).arrays["tiles"]) for own in (0, 1)
    )
    assert exact <= rounded <= exact + exact / 8


@given(LENGTHS, st.randoms())
def test_of_a_cargo_that_others_replace_only_shapes_are_read(lengths, random):
    shuffled = [random.sample(own, len(own)) for own in lengths]
    first, second = (flat_cargo(parts_of(own), pad_id=0, fused=True, room=1) for own in (lengths, shuffled))
    assert first.shape == second.shape
    sent = torch.from_numpy(second.flattened())
    (batch, layout), (same, as_own) = (unpack(cargo, sent, None) for cargo in (first, second))
    assert torch.equal(batch.input_ids, same.input_ids)
    assert torch.equal(layout.flat.texts.lengths, as_own.flat.texts.lengths)
    assert torch.equal(layout.flat.texts.blocks, as_own.flat.texts.blocks)


@pytest.mark.parametrize("spans", [False, True])
def test_what_a_place_computes_does_not_depend_on_the_room(spans):
    tokens = toy_task(rows=24, validation_rows=8).train
    occupants = [
        Occupant(TrainConfig(adapter_size=size, learning_rate=1e-3), 2, spans=spans) for size in (2, 4)
    ]
    model = PackModel(tiny_backbone(), occupants, pooling="cls").eval()
    parts = [Part(place, tokens, np.arange(place, last), spans=spans) for place, last in enumerate((9, 5))]
    found = []
    for room in (0, 16):
        cargo = flat_cargo(parts, pad_id=0, fused=False, room=room)
        found.append(model(*unpack(cargo, torch.from_numpy(cargo.flattened()), None)))
    for part, exact, roomy in zip(parts, *found, strict=True):
        assert len(roomy) == 16
        for own, other, length in zip(exact, roomy, tokens.lengths[part.indices], strict=False):
            real = slice(int(length)) if spans else slice(None)
            torch.testing.assert_close(own[real], other[real])


class Waits(TorchDispatchMode):
    """What in a pass would wait for a GPU: a number or a size that Python asks for."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::masked_select"):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("model_type", FLAT)
def test_nothing_in_a_flat_pass_waits_for_the_device(model_type):
    backbone = tiny_backbone(model_type)
    tokens = toy_task(rows=24, validation_rows=8).train
    occupant = Occupant(TrainConfig(method="adapter", adapter_size=4, dropout=0.1), 2)
    model = PackModel(backbone, [occupant, occupant], pooling="cls").train()
    model.masks.begin(torch.tensor([1, 2], dtype=torch.int32))
    parts = [Part(place, tokens, np.arange(place, 9)) for place in range(2)]
    batch, layout = flat_batch(parts, pad_id=0, device=CPU)
    with Waits() as waits:
        model.encode(batch, layout)
    assert waits.found == []
