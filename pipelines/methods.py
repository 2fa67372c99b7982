"""Which parameters train: a trial's model, made from the frozen backbone and a configuration."""

import copy
from inspect import signature

import torch
from torch import Tensor, nn

from pipelines.adapter import BottleneckAdapter
from pipelines.architectures import adapter_sites, norm_paths
from pipelines.backbone import Backbone
from pipelines.batches import Batch
from pipelines.config import TrainConfig

HEAD_STD = 0.02  # of the head's initial weights, as in BERT
METHODS = ("adapter",)


class TrialModel(nn.Module):
    """Encoder, pooling and one linear head; only `trained` has gradients.

    Attributes:
        trained: the trained parameters by name. Adapters are `adapter.LAYER.PLACE.…`, layer norms
            `norm.PATH.…`, the head `head.…`; the names do not depend on how the encoder is wrapped.
    """

    def __init__(self, encoder: nn.Module, head: nn.Linear, pooling: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.pooling = pooling
        self.trained: dict[str, nn.Parameter] = {}
        # Tokenizers tell segments to encoders that know none, as BERT's does to DistilBERT.
        self._has_segments = (
            "token_type_ids" in signature(encoder.forward).parameters
            and getattr(encoder.config, "type_vocab_size", 1) > 1
        )

    def forward(self, batch: Batch) -> Tensor:
        """Returns the head's outputs, (batch, outputs), in fp32."""
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        if self._has_segments and batch.token_type_ids is not None:
            inputs["token_type_ids"] = batch.token_type_ids
        output = self.encoder(**inputs)
        hidden: Tensor = output.last_hidden_state  # (batch, tokens, d)
        if self.pooling == "pooler":
            pooled = output.pooler_output
        elif self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            mask = batch.attention_mask[..., None].to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
        return self.head(pooled).float()  # type: ignore[no-any-return]

    def trained_parameters(self) -> int:
        """How many parameters train."""
        return sum(parameter.numel() for parameter in self.trained.values())


def build_model(backbone: Backbone, config: TrainConfig, *, outputs: int, pooling: str) -> TrialModel:
    """A trial's model. Its frozen parameters *are* the backbone's; what trains is its own, seeded.

    `adapter` (§2.1): a bottleneck after the attention's and after the feed-forward's projection of every
    layer, before the residual is added; all layer norms, the embeddings' included; the head.

    Args:
        outputs: the head's width.
        pooling: "pooler", "cls" or "mean", as `Backbone.pooling` resolves it.

    Raises:
        ValueError: the method is not one of `METHODS`.
    """
    if config.method not in METHODS:
        raise ValueError(f"unknown method {config.method!r}; known: {', '.join(METHODS)}")
    # Shared by identity: the copy gets modules of its own but the backbone's very tensors.
    shared = (*backbone.model.parameters(), *backbone.model.buffers())
    encoder = copy.deepcopy(backbone.model, {id(tensor): tensor for tensor in shared})
    device = next(encoder.parameters()).device
    generator = torch.Generator().manual_seed(config.seed)

    trained: dict[str, nn.Parameter] = {}
    for path in norm_paths(backbone.architecture, encoder):
        norm = encoder.get_submodule(path)
        for name, frozen in list(norm.named_parameters()):
            own = nn.Parameter(frozen.detach().clone())
            norm.register_parameter(name, own)
            trained[f"norm.{path}.{name}"] = own

    if config.dropout is not None:
        _set_dropout(encoder, config.dropout)
    for site in adapter_sites(backbone.architecture, encoder):
        adapter = BottleneckAdapter(
            backbone.width, config.adapter_size, init_std=config.init_std, generator=generator
        ).to(device)
        host = encoder.get_submodule(site.path)
        if config.dropout is not None and isinstance(host, nn.Identity):
            host = nn.Dropout(config.dropout)  # ModernBERT leaves it out where its own rate is 0
        encoder.set_submodule(site.path, nn.Sequential(host, adapter))
        for name, parameter in adapter.named_parameters():
            trained[f"adapter.{site.layer}.{site.place}.{name}"] = parameter

    head = nn.Linear(backbone.width, outputs)
    nn.init.normal_(head.weight, std=HEAD_STD, generator=generator)
    nn.init.zeros_(head.bias)
    model = TrialModel(encoder, head.to(device), pooling)
    for name, parameter in model.head.named_parameters():
        trained[f"head.{name}"] = parameter
    model.trained = trained
    return model


def is_decayed(name: str) -> bool:
    """Whether weight decay applies to a trained parameter: not to biases and layer norms."""
    return not name.endswith("bias") and not name.startswith("norm.")


def _set_dropout(encoder: nn.Module, rate: float) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        # Some attention modules keep their rate as a number.
        if isinstance(getattr(module, "attention_dropout", None), int | float):
            module.attention_dropout = rate  # type: ignore[assignment]
