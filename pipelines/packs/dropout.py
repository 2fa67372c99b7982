"""Dropout that depends on a trial's own seed, step and place in the network, never on who else is computed.

torch's generator draws one mask after the other from one stream: a trial's masks would depend on its
neighbours in a batch, and on one thread it takes a quarter of a training step. Here a mask is a function:
each element's bits are a hash of (key of trial and step, dropout call, row, token, feature).
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

ATTENTION = "adaptune"  # transformers' name for `attend`
_GOLDEN = -0x61C88647  # 2^32 divided by the golden ratio, as int32: steps that fill the range evenly
_MOST_PASSES = 256  # of one layer in a forward pass
_LEVELS = 1 << 16  # a mask's resolution: rates are rounded to multiples of 1/65536


class MaskSource:
    """What all dropout modules of one model share: whose rows a batch holds, and at which step each is.

    Attributes:
        keys: one int32 a place, from `encoder.batches.step_key`; None: nothing is dropped.
    """

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self._overrides: Sequence[float | None] = ()
        self._first_layers: Sequence[int] = ()
        self._passes: Counter[int] = Counter()

    def set_places(self, overrides: Sequence[float | None], first_layers: Sequence[int]) -> None:
        """The places' own rates (None: the encoder's), and the layers from which they train."""
        self._overrides, self._first_layers = tuple(overrides), tuple(first_layers)

    def begin(self, keys: Tensor | None) -> None:
        """Start a forward pass."""
        self.keys = keys
        self._passes.clear()

    def rates(self, own: float, layer: int) -> tuple[float, ...]:
        """Each place's rate at a site whose own rate is `own`. Below a place's first layer nothing drops."""
        return tuple(
            (own if override is None else override) if layer >= first or first == 0 else 0.0
            for override, first in zip(self._overrides, self._first_layers, strict=True)
        )

    def drop(self, x: Tensor, site: int, rates: Sequence[float]) -> Tensor:
        """Zero elements of x, (places x rows, ..., features), at each place's rate, and scale up the rest."""
        if self.keys is None:
            return x
        self._passes[site] += 1  # a layer that is shared runs more than once
        places = len(rates)
        call = site * _MOST_PASSES + self._passes[site]
        bits = _random_bits(self.keys, call, (x.shape[0] // places, *x.shape[1:]))
        if len(set(rates)) == 1:
            return x * _keep(bits, rates[0]).to(x.dtype).mul_(1 / (1 - rates[0]))
        kept = torch.empty_like(x)
        for mask, own, rate in zip(kept.chunk(places), bits.chunk(places), rates, strict=True):
            mask.copy_(_keep(own, rate)).mul_(1 / (1 - rate))
        return x * kept


class SeededDropout(nn.Module):
    """Takes the place of an encoder's nn.Dropout.

    Args:
        p: the site's own rate; transformers reads it.
        site: its number among the encoder's.
        layer: the one that it lies in, as `architectures.layer_of` counts.
    """

    def __init__(self, p: float, source: MaskSource, *, site: int, layer: int) -> None:
        super().__init__()
        self.p = p
        self.site = site
        self.layer = layer
        self.source = source

    def forward(self, x: Tensor) -> Tensor:
        return self.source.drop(x, self.site, self.rates) if self.active else x

    @property
    def rates(self) -> tuple[float, ...]:
        """The rate of each place."""
        return self.source.rates(self.p, self.layer)

    @property
    def active(self) -> bool:
        """Whether a forward pass drops anything here now."""
        return self.training and self.source.keys is not None and any(self.rates)


def _random_bits(keys: Tensor, call: int, shape: Sequence[int]) -> Tensor:
    """Uniform int16 of shape (places x shape[0], *shape[1:]); shape is that of one place.

    An element's bits depend on its place's key, the call and its own indices alone: not on how far a batch
    is padded.
    """
    *outer, features = shape
    lanes = (features + 1) // 2  # a hash of 32 bits serves two elements
    bits = _mix(keys + call * _GOLDEN % 2**31)
    for size in outer:
        bits = _mix(bits[..., None] + _steps(size, bits.device))
    bits = _mix(bits[..., None] + _steps(lanes, bits.device))
    return bits.view(torch.int16)[..., :features].flatten(0, 1)


def _steps(size: int, device: torch.device) -> Tensor:
    return torch.arange(1, size + 1, dtype=torch.int32, device=device).mul_(_GOLDEN)


def _mix(bits: Tensor) -> Tensor:
    """lowbias32 without its last step (C. Wellons, github.com/skeeto/hash-prospector).

    Shifts of signed numbers keep the sign: each costs one bit of 32, which a multiplication then hides.
    """
    bits = bits ^ (bits >> 16)
    bits.mul_(0x7FEB352D)
    bits ^= bits >> 15
    return bits.mul_(-0x7B935975)  # 0x846ca68b as int32


def _keep(bits: Tensor, rate: float) -> Tensor:
    """1 for elements that stay, 0 for those that go: integers all the way, as comparisons are slow on CPU."""
    least = round(rate * _LEVELS) - _LEVELS // 2
    if least <= -_LEVELS // 2:
        return torch.ones_like(bits)
    return bits.clamp(least - 1, least).sub_(least - 1)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention with our dropout on its probabilities; without dropout, torch's fused one.

    Shapes: query, key, value (rows, heads, tokens, width) -> (rows, tokens, heads, width).
    """
    site = next((child for child in module.children() if isinstance(child, SeededDropout)), None)
    if site is None or not site.active:
        mixed = functional.scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling)
        return mixed.transpose(1, 2), None
    scores = query @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
    if attention_mask is not None:
        scores = (
            scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
            if attention_mask.dtype == torch.bool
            else scores + attention_mask
        )
    weights = site(scores.softmax(-1).to(value.dtype))
    return (weights @ value).transpose(1, 2), None


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
