"""The encoder's attention, in both layouts, with our dropout on its probabilities."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from pipelines.packs.dropout import SeededDropout
from pipelines.packs.layout import Groups, Segments, Texts

ATTENTION = "adaptune"  # transformers' name for `attend`


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    terms: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention with our dropout on its probabilities; without dropout, torch's fused one.

    Args:
        terms: added to the scores, for each head by the key's place less the query's: (heads, distances), the
            middle one for 0; those further apart have the last one. None: nothing is added.

    Shapes: query, key, value (lines, heads, tokens, width) -> (lines, tokens, heads, width).
    """
    site = next(child for child in module.children() if isinstance(child, SeededDropout))
    layout = site.source.current.now
    if layout.flat is None:
        if terms is not None:
            added = _between(terms, query.shape[2])
            attention_mask = added if attention_mask is None else added + attention_mask
        mixed = _attend(site, (query, key, value), attention_mask, scaling, layout.texts)
        return mixed.transpose(1, 2), None
    tokens = tuple(x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    texts = layout.flat.texts
    if isinstance(texts, Segments):
        from pipelines.packs.kernels.attention import attention  # needs Triton

        mask = site.of(texts.texts) if site.active else None
        scaling = scaling or query.shape[-1] ** -0.5
        mixed = attention(tokens, texts, mask, scaling, sliding_window, terms)
    else:
        mixed = _attend_groups(site, tokens, texts, scaling, sliding_window, terms)
    return mixed.unflatten(0, (query.shape[0], query.shape[2])), None


def _attend_groups(
    site: SeededDropout,
    parts: tuple[Tensor, ...],
    groups: Groups,
    scaling: float | None,
    window: int | None,
    terms: Tensor | None,
) -> Tensor:
    """Of parts (tokens, heads, width) each token's mix, the same shape."""
    grouped = [_moved(x, groups.grouped, groups.located, groups.real) for x in parts]
    places = groups.texts.places.split([len(mask) for mask in groups.masks])
    numbers = groups.texts.numbers.split([len(mask) for mask in groups.masks])
    tokens = [x.split([mask.numel() for mask in groups.masks]) for x in grouped]
    found = []
    for index, mask in enumerate(groups.masks):
        seen = mask[:, None, None, :]
        if window is not None:
            seen = seen & _near(mask.shape[1], window, mask.device)
        if terms is not None:
            seen = _between(terms, mask.shape[1]).masked_fill(~seen, torch.finfo(terms.dtype).min)
        own = tuple(x[index].unflatten(0, mask.shape).transpose(1, 2) for x in tokens)
        mixed = _attend(site, own, seen, scaling, Texts(places[index], numbers[index]))
        found.append(mixed.transpose(1, 2).flatten(0, 1))
    return _moved(torch.cat(found), groups.located, groups.grouped, groups.attended)


def _attend(
    site: SeededDropout,
    parts: tuple[Tensor, ...],
    mask: Tensor | None,
    scaling: float | None,
    texts: Texts,
) -> Tensor:
    query, key, value = parts
    if not site.active:
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.to(query.dtype)
        return functional.scaled_dot_product_attention(query, key, value, mask, scale=scaling)
    scores = query @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
    if mask is not None:
        least = torch.finfo(scores.dtype).min
        scores = scores.masked_fill(~mask, least) if mask.dtype == torch.bool else scores + mask
    weights: Tensor = site(scores.softmax(-1).to(value.dtype), texts)
    return weights @ value


def _near(tokens: int, window: int, device: torch.device) -> Tensor:
    positions = torch.arange(tokens, device=device)
    return (positions[:, None] - positions).abs() <= window


def _between(terms: Tensor, tokens: int) -> Tensor:
    """The terms of each two of so many tokens, (1, heads, tokens, tokens)."""
    positions = torch.arange(tokens, device=terms.device)
    reach = terms.shape[1] // 2
    return terms[:, (positions - positions[:, None]).clamp(-reach, reach) + reach][None]


class _Moved(torch.autograd.Function):
    """x[index], whose gradient is gathered as well: adding up rows in any order would not be repeatable.

    Args of apply: x (n, ...), index (m,) into it, back (n,) into the result, and for each of the n whether it
    was moved at all, (n, 1).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, back: Tensor, moved: Tensor) -> Tensor:
        ctx.save_for_backward(back, moved)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        back, moved = ctx.saved_tensors
        found = gradient.index_select(0, back)
        return found * moved.view(-1, *[1] * (found.dim() - 1)).to(found.dtype), None, None, None


def _moved(x: Tensor, index: Tensor, back: Tensor, moved: Tensor) -> Tensor:
    result: Tensor = _Moved.apply(x, index, back, moved)  # type: ignore[no-untyped-call]
    return result


def _mask(**options: Any) -> Tensor | None:
    """None for the flat layout, whose texts attention puts apart itself."""
    return None if options.get("attention_mask") is None else sdpa_mask(**options)


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, _mask)
