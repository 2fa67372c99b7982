"""Which arithmetic to compute in."""

import torch


def resolve_precision(wanted: str, device: torch.device) -> str:
    """`auto` is bf16 where the hardware computes in it, else fp32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    # Matrix units for bf16 alone make it worth while; emulation would be slower than fp32.
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def autocast(device: torch.device, precision: str, *, caches: bool = True) -> torch.autocast:
    """bf16 matrix products where `precision` says so; trained parameters and optimizer stay in fp32.

    Args:
        caches: whether a parameter is converted once for all its uses.
    """
    enabled = precision == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=caches)
