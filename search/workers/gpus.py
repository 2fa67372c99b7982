"""What the GPUs of a worker are doing, by the names that MLflow gives to its own system metrics."""

import contextlib
import functools
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

log = logging.getLogger(__name__)


def read_gpus() -> Mapping[str, float]:
    """Memory, utilisation and power of each GPU that this process may use: `gpu_0_power_usage_watts`, and so
    on. Empty without a GPU, or without NVIDIA's library (the extra `gpu`).
    """
    found: dict[str, float] = {}
    for handle in _handles():
        found |= _read(handle)
    return found


@functools.cache
def _handles() -> tuple[Any, ...]:
    """NVML's handles of the GPUs that Ray gave to this worker: it writes them into the environment."""
    visible = [one.strip() for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
    if not visible:
        return ()
    try:
        import pynvml

        pynvml.nvmlInit()
        return tuple(
            pynvml.nvmlDeviceGetHandleByIndex(int(one))
            if one.isdecimal()
            else pynvml.nvmlDeviceGetHandleByUUID(one)
            for one in visible
        )
    except Exception as error:  # not installed, no driver, a container that hides it: nothing is shown
        log.debug("GPUs cannot be read: %s", error)
        return ()


def _read(handle: Any) -> dict[str, float]:
    import pynvml

    found: dict[str, float] = {}
    with _where_it_can():
        name = f"gpu_{pynvml.nvmlDeviceGetIndex(handle)}"
        with _where_it_can():
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            found[f"{name}_memory_usage_megabytes"] = memory.used / 1e6
            found[f"{name}_memory_usage_percentage"] = 100 * memory.used / memory.total
        with _where_it_can():
            rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
            found[f"{name}_utilization_percentage"] = float(rates.gpu)
        with _where_it_can():
            found[f"{name}_power_usage_watts"] = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
    return found


@contextlib.contextmanager
def _where_it_can() -> Iterator[None]:
    """Not every GPU tells everything: a part of one has no power of its own."""
    import pynvml

    try:
        yield
    except pynvml.NVMLError as error:
        log.debug("a GPU does not tell: %s", error)
