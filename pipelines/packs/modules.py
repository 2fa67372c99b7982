"""Modules that compute several trials side by side in one pass of the frozen encoder.

Frozen modules do not notice; the modules here use each trial's own parameters for its own texts.
"""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.packs.layout import Current, Flat, Layout, Segments


class PackedNorm(nn.Module):
    """A layer norm with a scale and a shift for each place.

    A kernel's result is of the type that autocast's products read: they would make it so one by one, and the
    residual that adds to it is half as large. Without one it is in fp32, as bundles have always had it.

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
        if layout.fused and (flat := layout.tiled(x)) is not None:
            from pipelines.packs.kernels.norm import norm  # needs Triton

            where = {"tiles": flat.tiles, "ends": flat.ends, "chosen": layout.chosen}
            return norm(x, self.weight, self.bias, **where, eps=self.eps, dtype=product_type(x))
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
    x, texts = hidden.reshape(-1, hidden.shape[-1]), flat.texts
    if isinstance(texts, Segments):
        from pipelines.packs.kernels.means import means as kernel  # needs Triton

        return kernel(x, flat.first, texts.whole, texts.whose)
    grouped = x.index_select(0, texts.grouped) * texts.attended.to(x.dtype)
    found = [
        part.view(*mask.shape, -1).sum(1) / mask.sum(1, keepdim=True).to(x.dtype)
        for mask, part in zip(texts.masks, grouped.split([mask.numel() for mask in texts.masks]), strict=True)
    ]
    return torch.cat(found).index_select(0, texts.order)


def tokens_of(hidden: Tensor, layout: Layout, index: int) -> Tensor:
    """Every token of the texts of the layout's place at `index`: (texts, tokens, d)."""
    if layout.flat is None:
        return hidden.chunk(len(layout.places))[index]
    where = layout.flat.spans[layout.places[index]]
    return hidden.reshape(-1, hidden.shape[-1])[where]


def place_linear(
    layout: Layout, x: Tensor, weight: Tensor, bias: Tensor, *, tiled: bool, skip: Tensor | None = None
) -> Tensor:
    """Each part of x (parts, tokens, d), as `Layout.split` gives it, through its place's own linear layer:
    (parts, tokens, m).

    Args:
        weight, bias: (K, m, d) and (K, m).
        tiled: whether parts are tiles.
        skip: what is added, as the result.
    """
    dtype, flat = product_type(x), layout.flat
    if layout.only is None and tiled and flat is not None and _has_grouped_products(dtype, weight):
        # A product for each place: a tile's own copy of the weights would be larger than the tile.
        own = layout.of_places(weight).to(dtype).transpose(1, 2)
        found = functional.grouped_mm(x.to(dtype).flatten(0, 1), own, offs=flat.ends)
        found = found.unflatten(0, x.shape[:2])
        if skip is not None and layout.fused:
            from pipelines.packs.kernels.skip import add_biased  # needs Triton

            where = {"tiles": flat.tiles, "ends": flat.ends, "chosen": layout.chosen}
            return add_biased(found, bias, skip, **where)
        found = found + bias.to(dtype).index_select(0, flat.tiles)[:, None]
    elif layout.only is not None:
        only = slice(layout.only, layout.only + 1)
        found = by_part(x, weight[only], bias[only])
    elif tiled and flat is not None:
        found = by_part(x, weight.index_select(0, flat.tiles), bias.index_select(0, flat.tiles))
    else:
        found = by_part(x, layout.of_places(weight), layout.of_places(bias))
    return found if skip is None else skip + found


def by_part(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Each part of x (parts, tokens, d) through a linear layer of its own: (parts, m, d) and (parts, m)."""
    return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))


def product_type(x: Tensor) -> torch.dtype:
    """What products of x are computed in: autocast's type, where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _has_grouped_products(dtype: torch.dtype, weight: Tensor) -> bool:
    """Whether torch's `grouped_mm` can be used: it is for rows of 16 bytes, on GPUs for bf16 alone, and those
    before Hopper would wait for the processor.
    """
    if weight.device.type == "cpu":
        return all(size * dtype.itemsize % 16 == 0 for size in weight.shape[1:])
    rows = weight.shape[1] % 8 == 0 and weight.shape[2] % 8 == 0
    return dtype == torch.bfloat16 and rows and _is_hopper(weight.device)


@cache
def _is_hopper(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)
