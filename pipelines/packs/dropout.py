"""Dropout that depends on a trial's own seed, step and place in the network, never on who else is computed.

torch's generator draws one mask after the other from one stream: a trial's masks would depend on its
neighbours in a batch, and on one thread it takes a quarter of a training step. Here a mask is a function:
each element's bits are a hash of (key of trial and step, dropout call, row, token, feature).
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipelines.packs.layout import Current, Texts

_GOLDEN = -0x61C88647  # 2^32 divided by the golden ratio, as int32: steps that fill the range evenly
_MOST_PASSES = 256  # of one layer in a forward pass
_LEVELS = 1 << 16  # a mask's resolution: rates are rounded to multiples of 1/65536


class MaskSource:
    """What all dropout modules of one model share: whose texts a batch holds, and the step of each place.

    Attributes:
        keys: one int32 a place, from `encoder.batches.step_key`; None: nothing is dropped.
    """

    def __init__(self, current: Current) -> None:
        self.keys: Tensor | None = None
        self.current = current
        self._passes: Counter[int] = Counter()

    def begin(self, keys: Tensor | None) -> None:
        """Start a forward pass."""
        self.keys = keys
        self._passes.clear()

    def count_pass(self, site: int) -> int:
        """How often a site was passed in this forward pass before: a shared layer runs more than once."""
        self._passes[site] += 1
        return self._passes[site] - 1


class SeededDropout(nn.Module):
    """Takes the place of an encoder's nn.Dropout.

    Args:
        p: the site's own rate; transformers reads it.
        places: how many there are; none of them drops anything until it is given its rate.
        drops: whether some are to be given one.
        site: its number among the encoder's.
        layer: the one that it lies in, as `architectures.layer_of` counts.
        repeats: whether its layer runs more than once.
    """

    call: Tensor
    least: Tensor
    scales: Tensor

    def __init__(
        self,
        p: float,
        source: MaskSource,
        *,
        places: int,
        drops: bool,
        site: int,
        layer: int,
        device: torch.device | None = None,
        repeats: bool = False,
    ) -> None:
        super().__init__()
        self.p = p
        self.source = source
        self.rates = [0.0] * places
        self.drops = drops
        self.layer = layer
        self._site = site
        self._repeats = repeats
        # Tensors, so that a recorded pass reads the rates of those who sit there now.
        numbers = {
            "call": torch.tensor([_call(site)], dtype=torch.int32, device=device),
            "least": torch.full((places,), _least(0.0), dtype=torch.int16, device=device),
            "scales": torch.ones(places, device=device),
        }
        for name, tensor in numbers.items():
            self.register_buffer(name, tensor, persistent=False)

    def set_rate(self, place: int, rate: float) -> None:
        """Give a place its rate."""
        if self.rates[place] != rate:
            self.rates[place] = rate
            self.least[place] = _least(rate)
            self.scales[place] = 1 / (1 - rate)

    def forward(self, x: Tensor, texts: Texts | None = None) -> Tensor:
        """Zero elements of x (lines, ..., features) at each place's rate, and scale up the rest.

        Args:
            texts: what the lines are; None: as the layout has it.
        """
        if not self.active:
            return x
        now = self.source.current.now
        if texts is None:
            places, numbers, positions = now.whose(x)
            if now.fused:
                from pipelines.packs.kernels.dropout import dropout  # needs Triton

                keys, call = self._call_of_pass()
                return dropout(x, keys, call, places, numbers, positions, self.least, self.scales)
        else:
            places, numbers, positions = texts.places, texts.numbers[:, None], None
        bits = self._bits(places, numbers)
        bits = _among(bits, x.shape[1:-1]) if positions is None else _mix(bits + _steps_at(positions))
        return self._drop(x, bits, places)

    def of(self, texts: Texts) -> tuple[Tensor, Tensor, Tensor]:
        """What kernels make a mask of, for each text: its bits, the least bits that stay, and what they are
        scaled by. Here a mask's dimensions are texts, heads, queries and keys.
        """
        bits = self._bits(texts.places, texts.numbers[:, None]).flatten()
        least, scales = self.least.index_select(0, texts.places), self.scales.index_select(0, texts.places)
        return bits, least.int(), scales

    @property
    def active(self) -> bool:
        """Whether a forward pass drops anything here now."""
        return self.training and self.drops and self.source.keys is not None

    def _bits(self, places: Tensor, numbers: Tensor) -> Tensor:
        """Those of each text, of which its elements' are made: the shape of `numbers`."""
        keys, call = self._call_of_pass()
        return _mix(_mix(keys + call).index_select(0, places)[:, None] + _steps_at(numbers))

    def _call_of_pass(self) -> tuple[Tensor, Tensor]:
        """The places' keys, and what this pass of the site adds to them."""
        keys = self.source.keys
        if keys is None:
            raise RuntimeError("no step has begun")
        call = self.call
        if self._repeats:
            call = call + self.source.count_pass(self._site) * _GOLDEN
        return keys, call

    def _drop(self, x: Tensor, bits: Tensor, places: Tensor) -> Tensor:
        lanes = _mix(bits[..., None] + _steps((x.shape[-1] + 1) // 2, bits.device))
        bits = lanes.view(torch.int16)[..., : x.shape[-1]]  # a hash of 32 bits serves two elements
        only = self.source.current.now.only
        if only is not None:
            rate = self.rates[only]
            return x * _keep(bits, rate).to(x.dtype).mul_(1 / (1 - rate))
        shape = (-1, *[1] * (x.dim() - 1))
        kept = bits >= self.least.index_select(0, places).view(shape)
        return x * (kept.to(x.dtype) * self.scales.to(x.dtype).index_select(0, places).view(shape))


def rate_at(own: float, layer: int, *, override: float | None, first_layer: int) -> float:
    """A trial's rate at a site in a layer. Below the first that it trains nothing drops.

    Args:
        own: the site's.
        override: the trial's; None: the site's own.
    """
    if first_layer > 0 and layer < first_layer:
        return 0.0
    return own if override is None else override


def _call(site: int) -> int:
    """What a site adds to the keys, as int32."""
    return (site * _MOST_PASSES + 1) * _GOLDEN % 2**31


def _among(bits: Tensor, sizes: Sequence[int]) -> Tensor:
    """Bits (..., 1) or (...,) of each element of dimensions of these sizes."""
    bits = bits.flatten(0)
    for size in sizes:
        bits = _mix(bits[..., None] + _steps(size, bits.device))
    return bits


def _steps(size: int, device: torch.device) -> Tensor:
    return _steps_at(torch.arange(size, dtype=torch.int32, device=device))


def _steps_at(numbers: Tensor) -> Tensor:
    return (numbers + 1) * _GOLDEN


def _mix(bits: Tensor) -> Tensor:
    """lowbias32 without its last step (C. Wellons, github.com/skeeto/hash-prospector).

    Shifts of signed numbers keep the sign: each costs one bit of 32, which a multiplication then hides.
    """
    bits = bits ^ (bits >> 16)
    bits.mul_(0x7FEB352D)
    bits ^= bits >> 15
    return bits.mul_(-0x7B935975)  # 0x846ca68b as int32


def _least(rate: float) -> int:
    """The least int16 that is kept."""
    return round(rate * _LEVELS) - _LEVELS // 2


def _keep(bits: Tensor, rate: float) -> Tensor:
    """1 for elements that stay, 0 for those that go: integers all the way, as comparisons are slow on CPU."""
    least = _least(rate)
    if least <= -_LEVELS // 2:
        return torch.ones_like(bits)
    return bits.clamp(least - 1, least).sub_(least - 1)
