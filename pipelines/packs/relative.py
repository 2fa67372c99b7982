"""DeBERTa's relative positions in a pack: the encoder norms one table of them, and all its layers' attention
reads that. The norm is trained and the table is dropped out, so that each trial has a table of its own.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.packs.layout import Current


def put_tables(model: nn.Module, attentions: Iterable[str], current: Current) -> None:
    """Give each place a table of its own.

    Args:
        attentions: the paths of the layers' attention.
    """
    encoder: Any = model.get_submodule("encoder")
    if not encoder.relative_attention:
        return
    encoder.rel_embeddings = Tables(encoder.rel_embeddings, current)
    for path in attentions:
        attention: Any = model.get_submodule(path)
        attention.disentangled_attention_bias = Terms(attention, current)


class Tables(nn.Module):
    """Stands for the embeddings of relative positions, of which transformers reads the weight alone: one for
    each place, one after the other. Norms and dropout find them as they find texts.
    """

    def __init__(self, host: nn.Module, current: Current) -> None:
        super().__init__()
        self.host = host
        self._current = current

    @property
    def weight(self) -> Tensor:
        """(places * positions, d)."""
        table: Tensor = self.host.weight  # type: ignore[assignment] # typed as a tensor or a module
        return table.repeat(len(self._current.now.places), 1)


class Terms:
    """What relative positions add to attention's scores, as `disentangled_attention_bias` of transformers has
    it (He et al. 2021, §3.1): content to position and position to content, from each place's own table.

    Frozen projections see all places' tables at once, and no text has a copy of its place's.
    """

    def __init__(self, attention: Any, current: Current) -> None:
        # Modules of the attention, not itself: it has this as an attribute, and would wait for a collection.
        keys = "key_proj" if attention.share_att_key else "pos_key_proj"
        queries = "query_proj" if attention.share_att_key else "pos_query_proj"
        self._keys: Any = getattr(attention, keys) if "c2p" in attention.pos_att_type else None
        self._queries: Any = getattr(attention, queries) if "p2c" in attention.pos_att_type else None
        self._heads: int = attention.num_attention_heads
        self._current = current

    def __call__(
        self, queries: Tensor, keys: Tensor, positions: Tensor, tables: Tensor, scale_factor: int
    ) -> Tensor | int:
        """The sum of the terms, (texts * heads, tokens, tokens).

        Args:
            queries, keys: (texts * heads, tokens, width).
            positions: relative ones of query and key, (1, tokens, tokens).
            tables: (places * positions, d).
            scale_factor: how many terms attention's scores have.
        """
        own = tables.unflatten(0, (len(self._current.now.places), -1))
        own, index = _used(own, positions[0])
        scale = (queries.shape[-1] * scale_factor) ** 0.5
        found: Tensor | int = 0
        if self._keys is not None:
            found = self._taken(queries, self._keys(own), index) / scale
        if self._queries is not None:
            found = found + self._taken(keys, self._queries(own), index.mT).mT / scale
        return found if isinstance(found, int) else found.transpose(1, 2).flatten(0, 2)

    def _taken(self, x: Tensor, own: Tensor, index: Tensor) -> Tensor:
        """Of each token's scores with its place's table those at an index: (places, heads, texts, tokens,
        tokens).

        Args:
            x: (texts * heads, tokens, width).
            own: projected tables, (places, positions, heads * width).
            index: (tokens, tokens).
        """
        lines = x.unflatten(0, (len(own), -1, self._heads))
        scores = torch.einsum("prhtw,pjhw->phrtj", lines, own.unflatten(2, (self._heads, -1)))
        return scores.gather(4, index.expand(*scores.shape[:4], -1))


def _used(tables: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Of tables (places, positions, d) what short texts use, and where that is for each query and key,
    (tokens, tokens): the backward pass keeps the scores with all of it.

    Args:
        positions: relative ones, (tokens, tokens); those of key and query are the negative ones.
    """
    tokens, count = len(positions), tables.shape[1]
    index = (positions + count // 2).clamp(0, count - 1)
    if 2 * tokens - 1 >= count:
        return tables, index
    steps = torch.arange(tokens, device=index.device)
    used = torch.cat([index[0].flip(0), index[1:, 0]])  # by query's less key's number, the least first
    return tables.index_select(1, used), steps[:, None] - steps + tokens - 1
