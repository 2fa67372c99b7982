"""Which precision a device computes in."""

import torch

from pipelines.encoder.precision import resolve_precision

CPU = torch.device("cpu")


def test_precision_is_as_wanted_or_else_what_the_hardware_has(monkeypatch):
    assert [resolve_precision(wanted, CPU) for wanted in ("fp32", "bf16")] == ["fp32", "bf16"]
    for has, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert resolve_precision("auto", CPU) == expected
