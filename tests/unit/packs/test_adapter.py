import math

import numpy as np
import pytest
import torch

from pipelines.packs.adapter import BottleneckAdapter


def weights(adapter):
    return [adapter.down.weight.detach(), adapter.up.weight.detach()]


@pytest.mark.parametrize(
    ("d", "m"), [(768, 8), (768, 64), (768, 256), (1024, 8), (1024, 64), (1024, 256), (32, 1), (5, 7)]
)
def test_adapter_adds_2md_plus_d_plus_m_parameters(d, m):
    adapter = BottleneckAdapter(d, m)
    assert sum(p.numel() for p in adapter.parameters()) == 2 * m * d + d + m


def test_adapter_is_x_plus_up_of_tanh_gelu_of_down():
    adapter = BottleneckAdapter(6, 3, init_std=1.0, generator=torch.Generator().manual_seed(3)).double()
    with torch.no_grad():
        adapter.down.bias.copy_(torch.tensor([0.5, -1.0, 2.0]))
        adapter.up.bias.copy_(torch.linspace(-1, 1, 6))
    x = np.random.default_rng(0).normal(size=(2, 4, 6))

    down, up = (w.numpy() for w in weights(adapter))
    z = x @ down.T + np.array([0.5, -1.0, 2.0])
    gelu = 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    expected = x + gelu @ up.T + np.linspace(-1, 1, 6)

    np.testing.assert_allclose(adapter(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("std", [1e-7, 1e-3, 1e-2, 1.0])
def test_weights_start_as_a_gaussian_cut_at_two_deviations(std):
    adapter = BottleneckAdapter(768, 256, init_std=std, generator=torch.Generator().manual_seed(0))
    # The standard deviation of N(0, 1) cut at ±2: 1 - 2·2·φ(2) / (2Φ(2) - 1).
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    cut_std = std * math.sqrt(1 - 4 * density / math.erf(math.sqrt(2)))
    for weight in weights(adapter):
        assert weight.abs().max() <= 2 * std * (1 + 1e-6)
        assert weight.abs().max() > 1.99 * std
        assert weight.std().item() == pytest.approx(cut_std, rel=0.01)
        assert abs(weight.mean().item()) < 0.01 * std


def test_the_default_deviation_is_that_of_section_3_6():
    assert 1.9e-2 < BottleneckAdapter(768, 64).down.weight.abs().max() <= 2e-2


def test_biases_start_at_zero():
    adapter = BottleneckAdapter(32, 8)
    assert not adapter.down.bias.any()
    assert not adapter.up.bias.any()


@pytest.mark.parametrize("m", [8, 64, 256])
def test_adapter_starts_near_the_identity(m):
    x = torch.randn(4, 10, 768, generator=torch.Generator().manual_seed(1))
    change = BottleneckAdapter(768, m, generator=torch.Generator().manual_seed(0))(x) - x
    assert 0 < change.norm() < 0.05 * x.norm()


def test_the_same_generator_gives_the_same_weights_and_another_others():
    first, again, other = (
        BottleneckAdapter(32, 8, generator=torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)
    )
    for mine, same, others in zip(weights(first), weights(again), weights(other), strict=True):
        assert torch.equal(mine, same)
        assert not torch.equal(mine, others)
    assert not torch.equal(first.down.weight, first.up.weight.T)
