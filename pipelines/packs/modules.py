"""Modules that compute several trials side by side in one pass of the frozen encoder.

Frozen modules do not notice; the modules here use each trial's own parameters for its own texts.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.packs.layout import Current, Flat, Layout


class PackedNorm(nn.Module):
    """A layer norm with a scale and a shift for each place.

    Shapes: (lines, tokens, d), the same out.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None, eps: float, current: Current) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.eps = eps
        self._current = current

    def forward(self, x: Tensor) -> Tensor:
        layout, width = self._current.now, x.shape[-1:]
        weight = layout.own(self.weight, x)
        bias = None if self.bias is None else layout.own(self.bias, x)
        if layout.only is not None:  # torch's fused one
            return functional.layer_norm(x, width, weight[0], None if bias is None else bias[0], self.eps)
        normed = layout.split(functional.layer_norm(x, width, eps=self.eps))
        scaled = normed * weight[:, None]
        return (scaled if bias is None else scaled + bias[:, None]).view(x.shape)


class FirstToken(nn.Module):
    """Lets a module of (branch, residual) see the first token alone: all that the head will read."""

    def __init__(self, host: nn.Module, current: Current) -> None:
        super().__init__()
        self.host = host
        self._current = current

    def forward(self, branch: Tensor, residual: Tensor) -> Tensor:
        layout = self._current.now
        output: Tensor = self.host(first_tokens(branch, layout), first_tokens(residual, layout))
        return output


def first_tokens(x: Tensor, layout: Layout) -> Tensor:
    """Of (lines, tokens, d) the first token of each text: (texts, 1, d)."""
    if layout.flat is None:
        return x[:, :1]
    return x.reshape(-1, x.shape[-1]).index_select(0, layout.flat.first)[:, None]


def means(hidden: Tensor, flat: Flat) -> Tensor:
    """The mean over the tokens of each text, (texts, d)."""
    x = hidden.reshape(-1, hidden.shape[-1])
    grouped = x.index_select(0, flat.grouped) * flat.attended.to(x.dtype)
    found = [
        part.view(*mask.shape, -1).sum(1) / mask.sum(1, keepdim=True).to(x.dtype)
        for mask, part in zip(flat.masks, grouped.split([mask.numel() for mask in flat.masks]), strict=True)
    ]
    return torch.cat(found).index_select(0, flat.order)


def tokens_of(hidden: Tensor, layout: Layout, index: int) -> Tensor:
    """Every token of the texts of the layout's place at `index`: (texts, tokens, d)."""
    if layout.flat is None:
        return hidden.chunk(len(layout.places))[index]
    where = layout.flat.spans[layout.places[index]]
    return hidden.reshape(-1, hidden.shape[-1])[where]
