"""The sides of the packs' benchmark: a trial as a user of torch writes it, and a pack, on random encoders."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from pipelines.config import TrainConfig
from pipelines.encoder.architectures import ARCHITECTURES
from pipelines.encoder.backbone import Backbone
from pipelines.encoder.batches import training_batches
from pipelines.encoder.tokens import Tokens
from pipelines.packs.adapter import BottleneckAdapter
from pipelines.packs.pack import Pack
from pipelines.packs.training import Training
from pipelines.tasks.encoded import EncodedTask

SIZES = (8, 16, 64, 256)
BATCH = 32
CLASSES = 3
LENGTHS = Path(__file__).resolve().parent / "recorded" / "sms_spam_lengths.json"
Step = Callable[[], None]


@dataclass(frozen=True)
class Shape:
    """An encoder's shape and the texts' length; None: SMS spam's."""

    layers: int
    width: int
    heads: int
    tokens: int | None


SHAPES = {
    "base-128": Shape(12, 768, 12, 128),
    "base-32": Shape(12, 768, 12, 32),
    "base-real": Shape(12, 768, 12, None),
    "large-128": Shape(24, 1024, 16, 128),
    "tiny": Shape(2, 64, 2, 16),
    "tiny-real": Shape(2, 64, 2, None),
}


def random_encoder(shape: Shape, device: torch.device) -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
    )
    return BertModel(config).to(device).requires_grad_(False)


def lengths_of(shape: Shape, count: int) -> NDArray[np.int64]:
    if shape.tokens is not None:
        return np.full(count, shape.tokens, dtype=np.int64)
    recorded = np.array(json.loads(LENGTHS.read_text()), dtype=np.int64)
    return np.resize(recorded, count)


def random_task(shape: Shape, steps: int) -> EncodedTask:
    """More texts than all steps use: no epoch ends while the clock runs."""
    generator = np.random.default_rng(0)

    def texts(count: int) -> Tokens:
        offsets = np.concatenate([[0], np.cumsum(lengths_of(shape, count))]).astype(np.int64)
        return Tokens(generator.integers(1000, 30000, offsets[-1], dtype=np.int32), offsets, None)

    count = BATCH * (steps + 1)
    return EncodedTask(
        name="random",
        kind="classification",
        metric="accuracy",
        metrics=("accuracy",),
        positive=None,
        labels=tuple("abc"),
        max_tokens=128,
        train=texts(count),
        train_targets=generator.integers(0, CLASSES, count),
        validation=texts(BATCH),
        validation_targets=generator.integers(0, CLASSES, BATCH),
    )


class EagerSite(nn.Module):
    """A projection with its dropout, and the adapter behind them."""

    def __init__(self, site: nn.Module, adapter: BottleneckAdapter) -> None:
        super().__init__()
        self.site, self.adapter = site, adapter

    def forward(self, x: Tensor) -> Tensor:
        return self.adapter(self.site(x))


class EagerTrial(nn.Module):
    """A trial as it is written down: plain modules around a frozen encoder."""

    def __init__(self, encoder: BertModel, size: int) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.config.hidden_size
        for layer in encoder.encoder.layer:
            for part in (layer.attention.output, layer.output):
                part.dropout = EagerSite(part.dropout, BottleneckAdapter(width, size))
        for module in encoder.modules():
            if isinstance(module, (nn.LayerNorm, BottleneckAdapter)):
                module.requires_grad_(True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.encoder(ids, attention_mask=mask).pooler_output)


def eager_step(shape: Shape, device: torch.device, size: int, *, tuned: bool = False) -> Step:
    """One trial's step as a user of torch writes it, ready to be called."""
    encoder = random_encoder(shape, device)
    if tuned:  # what is frozen needs no full precision
        encoder = encoder.to(torch.bfloat16)
    model = EagerTrial(encoder, size).to(device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    run = torch.compile(model, dynamic=shape.tokens is None) if tuned else model
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=tuned or None)
    lengths = lengths_of(shape, BATCH * 64)
    batches = training_batches(lengths, BATCH, seed=0, epoch=1)
    number = 0

    def step() -> None:
        nonlocal number
        own = torch.from_numpy(lengths[batches[number % len(batches)]])
        number += 1
        mask = (torch.arange(int(own.max())) < own[:, None]).long().to(device)
        ids = torch.randint(1000, 30000, mask.shape, device=device)
        labels = torch.randint(0, CLASSES, (BATCH,), device=device)
        with torch.autocast(device.type, torch.bfloat16):
            loss = nn.functional.cross_entropy(run(ids, mask), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def pack_step(shape: Shape, device: torch.device, *, places: int, steps: int, fused: bool) -> Step:
    """A pack's step, ready to be called."""
    backbone = Backbone(
        name="random",
        model=random_encoder(shape, device).eval(),
        tokenizer=None,
        architecture=ARCHITECTURES["bert"],
        has_pooler=True,
        fingerprint="random",
    ).stored("bf16")
    pack = Pack(backbone, pooling="pooler", precision="bf16", fused=fused)
    task = random_task(shape, steps)
    for place in range(places):
        config = TrainConfig(
            adapter_size=SIZES[place % len(SIZES)],
            learning_rate=1e-4,
            epochs=1,
            batch_size=BATCH,
            seed=place,
        )
        Training(backbone, task, config, pack=pack)
    kernels = pack.fused

    def step() -> None:
        ended = pack.step()
        if ended:
            raise SystemExit(f"a trial ended while the clock ran: {ended[0].failure}")
        if pack.fused is not kernels:
            raise SystemExit("the kernels failed, and the pack went on without")

    return step


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def mean_tokens(shape: Shape) -> float:
    return float(lengths_of(shape, 4096).mean())
