"""Packs as on a GPU, without one: what kernels compute, plain modules do."""

import dataclasses
from collections.abc import Hashable

import torch

from pipelines.packs import pack as pack_module
from pipelines.packs import places, prediction, recorded
from pipelines.packs.batches import Cargo


@dataclasses.dataclass(frozen=True)
class Told(Cargo):
    """One that the plain modules compute, of the shape that kernels would be given."""

    told: Hashable = None

    @property
    def shape(self):
        return self.told


def without_kernels(monkeypatch, on_cargo=lambda _: None, *, recording=None):
    """Packs take themselves for fused ones.

    Args:
        on_cargo: is told of each pass.
        recording: stands for that of a pass; None: none is recorded.
    """
    flat_cargo, flat_batch, optimizer = (
        pack_module.flat_cargo,
        prediction.flat_batch,
        places.BankOptimizer,
    )

    def cargo(parts, *, fused, room, **others):
        assert fused
        plain = flat_cargo(parts, fused=False, **others)
        told = flat_cargo(parts, fused=True, room=room, **others).shape
        fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
        found = Told(**fields, told=told)
        on_cargo(found)
        return found

    monkeypatch.setattr(pack_module, "has_kernels", lambda _: True)
    monkeypatch.setattr(pack_module, "flat_cargo", cargo)
    if recording is None:
        monkeypatch.setattr(recorded.Recorder, "_recording", lambda *_: None)
    else:
        monkeypatch.setattr(recorded, "_Recording", recording)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(
        prediction, "flat_batch", lambda *parts, **others: flat_batch(*parts, **others | {"fused": False})
    )
    monkeypatch.setattr(
        places, "BankOptimizer", lambda *bank, **others: optimizer(*bank, **others | {"fused": False})
    )
