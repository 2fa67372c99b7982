"""The frozen encoder: how it is called, what is read of it, and layers whose output is known already."""

import copy
from inspect import signature
from typing import Any

from torch import Tensor, nn

from pipelines.encoder.architectures import layer_paths
from pipelines.encoder.backbone import Backbone
from pipelines.encoder.batches import Batch


class Known:
    """Hidden states (rows, tokens, d) that a `KnownLayer` gives out; the batch sets them."""

    def __init__(self) -> None:
        self.hidden: Tensor | None = None


class KnownLayer(nn.Module):
    """Stands for a layer whose output is known, or needs none: passes on `known`, or else its input."""

    def __init__(self, host: nn.Module, known: Known | None, *, tuples: bool) -> None:
        super().__init__()
        plain = {name: value for name, value in vars(host).items() if isinstance(value, str)}
        self.__dict__.update(plain)  # ModernBERT's encoder reads each layer's attention_type
        self._known = known
        self._tuples = tuples

    def forward(self, hidden: Tensor, *_: object, **__: object) -> Tensor | tuple[Tensor, None]:
        if self._known is not None and self._known.hidden is not None:
            hidden = self._known.hidden
        return (hidden, None) if self._tuples else hidden


class FrozenModel(nn.Module):
    """The layers below `boundary` alone, as they are in evaluation: hidden states (rows, tokens, d)."""

    def __init__(self, backbone: Backbone, boundary: int) -> None:
        super().__init__()
        architecture = backbone.architecture
        shared = (*backbone.model.parameters(), *backbone.model.buffers())
        self.encoder = copy.deepcopy(backbone.model, {id(tensor): tensor for tensor in shared}).eval()
        layers = layer_paths(architecture, self.encoder)
        self._last = self.encoder.get_submodule(layers[boundary - 1])
        for path in layers[boundary:]:
            passed = KnownLayer(self.encoder.get_submodule(path), None, tuples=architecture.tuples)
            self.encoder.set_submodule(path, passed)
        self._has_segments = takes_segments(self.encoder)

    def forward(self, batch: Batch) -> Tensor:
        found: list[Tensor] = []
        with self._last.register_forward_hook(
            lambda _, __, output: found.append(output[0] if isinstance(output, tuple) else output)
        ):
            self.encoder(**encoder_inputs(batch, segments=self._has_segments))
        return found[-1]


def pooled(output: Any, mask: Tensor | None, pooling: str) -> Tensor:
    """What a head sees of each text, (rows, d), of an encoder's output and its mask (rows, tokens); None: all
    are tokens.
    """
    hidden: Tensor = output.last_hidden_state
    if pooling == "pooler":
        known: Tensor = output.pooler_output
        return known
    if pooling == "cls":
        return hidden[:, 0]
    if mask is None:
        return hidden.mean(1)
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def takes_segments(encoder: nn.Module) -> bool:
    """Whether an encoder knows segments: tokenizers tell them to others too, as BERT's does to DistilBERT."""
    known = "token_type_ids" in signature(encoder.forward).parameters
    return known and getattr(encoder.config, "type_vocab_size", 1) > 1


def first_position(encoder: nn.Module) -> int:
    """The position that an encoder's embeddings give to the first token of a text: RoBERTa and its kin count
    on from the padding token's id.
    """
    padding = getattr(getattr(encoder, "embeddings", None), "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def encoder_inputs(batch: Batch, *, segments: bool, first_position: int = 0) -> dict[str, Tensor | None]:
    """What an encoder is called with."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if segments and batch.token_type_ids is not None:
        inputs["token_type_ids"] = batch.token_type_ids
    if batch.positions is not None:
        inputs["position_ids"] = batch.positions + first_position
    return inputs
