"""MPNet's attention in a pack: a term for each head by how far apart two tokens are (Song et al. 2020, §3.1),
added to the scores. Texts may stand side by side: the distance of a text's tokens is what it is anywhere.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.packs.attention import attend

REACH = 128  # tokens: transformers gives all further ones the same term


def put_distances(model: nn.Module, attentions: Iterable[str]) -> None:
    """Give an encoder attention that knows the layouts.

    Args:
        attentions: the paths of the layers' attention.
    """
    encoder: Any = model.get_submodule("encoder")
    # The encoder calls this once for all layers; it has no module of its own that could be replaced.
    encoder.compute_position_bias = Terms(encoder.relative_attention_bias, encoder.relative_position_bucket)
    for path in attentions:
        model.set_submodule(path, DistanceAttention(model.get_submodule(path)))


class Terms:
    """Stands for `compute_position_bias`, which has a term for each two tokens of a line: here is one for
    each distance, (heads, 2 * REACH + 1), that of the key's place less the query's.
    """

    def __init__(self, embedding: nn.Module, bucket: Any) -> None:
        self._embedding = embedding
        self._bucket = bucket

    def __call__(self, x: Tensor) -> Tensor:
        distances = torch.arange(-REACH, REACH + 1, device=x.device)
        found: Tensor = self._embedding(self._bucket(distances))
        return found.mT


class DistanceAttention(nn.Module):
    """Stands for MPNet's own attention, around its very projections."""

    def __init__(self, host: Any) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o, self.dropout = host.q, host.k, host.v, host.o, host.dropout
        self._width: int = host.attention_head_size

    def forward(
        self, hidden: Tensor, mask: Tensor | None = None, terms: Tensor | None = None, **_: object
    ) -> tuple[Tensor]:
        query, key, value = (
            part(hidden).unflatten(-1, (-1, self._width)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        mixed, _weights = attend(self, query, key, value, mask, terms=terms)
        return (self.o(mixed.flatten(2)),)
