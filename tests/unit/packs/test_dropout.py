"""Masks that are a function of seed, step and place: random enough, and the same whoever is beside."""

import numpy as np
import pytest
import torch

from pipelines.encoder.batches import step_key
from pipelines.packs.dropout import MaskSource, SeededDropout
from pipelines.packs.layout import Current, make_layout

SHAPE = (16, 24, 96)  # rows, tokens, features


def keys(*seeds_and_steps):
    return torch.tensor([step_key(*one) for one in seeds_and_steps], dtype=torch.int32)


def site_of(rates, own_keys, number=1, *, rows=SHAPE[0], repeats=False):
    """A dropout in a step of so many places as there are rates, each with so many rows."""
    current = Current()
    current.layout = make_layout(range(len(rates)), rows, torch.device("cpu"))
    source = MaskSource(current)
    source.begin(own_keys)
    module = SeededDropout(
        0.0, source, places=len(rates), drops=any(rates), site=number, layer=0, repeats=repeats
    )
    for place, rate in enumerate(rates):
        module.set_rate(place, rate)
    return module.train()


def dropped(own_keys, rates, shape=SHAPE, site=1):
    """What is left of ones: 0, or 1 / (1 - rate)."""
    module = site_of(rates, own_keys, site, rows=shape[0])
    return module(torch.ones(len(rates) * shape[0], *shape[1:]))


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5, 0.9])
def test_it_drops_at_its_rate_and_keeps_the_mean(rate):
    kept = dropped(keys((0, 1)), [rate])
    count = kept.numel()
    gone = int((kept == 0).sum())
    assert abs(gone - rate * count) < 5 * np.sqrt(rate * (1 - rate) * count)
    assert torch.allclose(kept[kept != 0], torch.tensor(1 / (1 - rate)))


def test_elements_are_dropped_independently():
    """Neighbours in each direction, and steps, seeds and sites beside each other, do not go together."""
    base = [(seed, step) for seed in (0, 1) for step in (0, 1)]
    masks = torch.stack(
        [(dropped(keys(one), [0.5], site=site) == 0).float() for one in base for site in (1, 2)]
    )
    centred = (masks - masks.mean()).numpy()
    bound = 5 / np.sqrt(centred.size)
    for axis in range(4):
        for lag in (1, 2, 3):
            together = (centred * np.roll(centred, lag, axis)).mean() / centred.var()
            assert abs(together) < bound, (axis, lag)


def test_each_place_has_the_masks_it_has_alone():
    places = [(0, 5), (0, 6), (3, 5)]
    rates = [0.1, 0.0, 0.4]
    together = dropped(keys(*places), rates)
    for own, place, rate in zip(together.chunk(3), places, rates, strict=True):
        assert torch.equal(own, dropped(keys(place), [rate]))


def test_masks_do_not_depend_on_how_far_a_batch_is_padded():
    small, large = dropped(keys((0, 1)), [0.3]), dropped(keys((0, 1)), [0.3], shape=(20, 31, 97))
    assert torch.equal(small, large[:16, :24, :96])


def test_a_layer_that_runs_twice_drops_differently_each_time():
    site = site_of([0.5], keys((0, 1)), repeats=True)
    first, second = (site(torch.ones(SHAPE)) for _ in range(2))
    assert not torch.equal(first, second)
    site.source.begin(keys((0, 1)))
    assert torch.equal(site(torch.ones(SHAPE)), first)


def test_gradients_flow_where_values_stay():
    x = torch.ones(SHAPE, requires_grad=True)
    y = site_of([0.5], keys((0, 1)))(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_keys_differ_from_step_to_step_and_seed_to_seed():
    found = {step_key(seed, step) for seed in range(40) for step in range(500)}
    assert len(found) > 20_000 - 10
