"""What a host's GPU does, by a library of NVIDIA's that is made up."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from search.workers import gpus
from search.workers.gpus import read_gpus


class Nvml(ModuleType):
    """Two GPUs with fixed readings; of the second one nothing but its power is refused."""

    class NVMLError(Exception):
        pass

    def __init__(self):
        super().__init__("pynvml")
        self.begun = False

    def nvmlInit(self):
        self.begun = True

    def nvmlDeviceGetHandleByIndex(self, index):
        if not self.begun:
            raise self.NVMLError("Uninitialized")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return ["GPU-a", "GPU-b"].index(uuid)

    def nvmlDeviceGetIndex(self, handle):
        return handle

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(used=20_000_000_000, total=80_000_000_000)

    def nvmlDeviceGetUtilizationRates(self, handle):
        return SimpleNamespace(gpu=90 + handle, memory=1)

    def nvmlDeviceGetPowerUsage(self, handle):
        if handle == 1:
            raise self.NVMLError("Not Supported")
        return 350_500  # milliwatts


@pytest.fixture
def nvml(monkeypatch):
    made = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


@pytest.fixture
def visible(monkeypatch):
    """Give GPUs to this process, as Ray does to a worker."""
    gpus._handles.cache_clear()
    yield lambda value: monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    gpus._handles.cache_clear()


def test_a_gpu_is_read_by_the_names_that_mlflow_gives(nvml, visible):
    visible("0")
    assert read_gpus() == {
        "gpu_0_memory_usage_megabytes": 20_000.0,
        "gpu_0_memory_usage_percentage": 25.0,
        "gpu_0_utilization_percentage": 90.0,
        "gpu_0_power_usage_watts": 350.5,
    }


@pytest.mark.parametrize("given", ["1", "GPU-b"])
def test_a_worker_reads_the_gpu_that_it_was_given_and_what_that_one_tells(nvml, visible, given):
    visible(given)
    assert set(read_gpus()) == {
        "gpu_1_memory_usage_megabytes",
        "gpu_1_memory_usage_percentage",
        "gpu_1_utilization_percentage",
    }


def test_a_worker_without_a_gpu_reads_none(nvml, visible):
    visible("")
    assert read_gpus() == {}
    assert not nvml.begun


def test_without_the_library_nothing_is_read(monkeypatch, visible):
    visible("0")
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    assert read_gpus() == {}


def test_without_a_driver_nothing_is_read(nvml, visible, monkeypatch):
    visible("0")

    def fail():
        raise nvml.NVMLError("Driver Not Loaded")

    monkeypatch.setattr(nvml, "nvmlInit", fail)
    assert read_gpus() == {}
