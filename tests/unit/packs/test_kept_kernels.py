"""Compiled kernels that the last process has left: damaged ones are compiled again, and what cannot be kept
costs time. Triton compiles for a GPU without having one.
"""

import builtins
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") == "1",
        reason="needs Triton, and its compiler",
    ),
    pytest.mark.integration,  # it takes a second for a kernel
    pytest.mark.filterwarnings("ignore"),
]
MANAGER = "pipelines.packs.kernels.kept:KernelFiles"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    from pipelines.packs.kernels.kept import KernelFiles

    monkeypatch.setattr(KernelFiles, "_elsewhere", None)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setenv("TRITON_CACHE_MANAGER", MANAGER)
    return tmp_path / "kernels"


def build(width=1024):
    """The kernel of norms, for a Hopper GPU."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pipelines.packs.kernels import norm

    types = {"x": "*bf16", "out": "*bf16", "tiles": "*i32", "d": "i32", "stride": "i32"}
    names = ["x", "out", "weight", "bias", "tiles", "means", "roots", "d", "stride", "eps"]
    source = ASTSource(
        fn=norm._forward,
        signature={name: types.get(name, "fp32" if name == "eps" else "*fp32") for name in names},
        constexprs={"SHIFTS": True, "TOKENS": 64, "ROWS": 4, "WIDTH": width},
    )
    return triton.compile(source, target=GPUTarget("cuda", 90, 32))


@pytest.fixture
def compiled(monkeypatch):
    """How many kernels have been compiled since, and not read."""
    import triton

    count = []
    monkeypatch.setattr(
        triton.knobs.compilation, "listener", lambda cache_hit, **_: None if cache_hit else count.append(1)
    )
    return count


def test_a_kernel_is_compiled_once_for_its_source_and_shape(compiled):
    first = build()
    assert build().kernel == first.kernel
    assert len(compiled) == 1
    build(width=512)
    assert len(compiled) == 2


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("__grp___forward.json", "empty"),
        ("_forward.json", "half"),
        ("_forward.cubin", "one bit"),
        ("_forward.cubin", "gone"),
        ("_forward.cubin", "a folder"),
        ("_forward.ptx", "garbage"),
    ],
)
def test_a_damaged_kernel_is_compiled_again_and_then_kept_whole(folder, compiled, name, damage, logged):
    good = build().kernel
    (path,) = folder.rglob(name)
    data = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "gone":
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        damaged = {"empty": b"", "half": data[:middle], "garbage": os.urandom(99), "one bit": flipped}
        path.write_bytes(damaged[damage])
    assert build().kernel == good
    assert len(compiled) == 2
    if damage != "gone":
        assert f"the compiled kernel {path} is damaged: it is compiled again" in "\n".join(logged)
    if damage != "a folder":
        assert build().kernel == good
        assert len(compiled) == 2


def test_a_kernel_without_its_checksum_is_not_believed(folder, compiled):
    """One that something else has put there, or whose process was killed in between."""
    build()
    for path in folder.rglob("*.cubin.sha256"):
        path.unlink()
    build()
    assert len(compiled) == 2


def test_kernels_are_found_where_their_folder_was_moved_to(folder, tmp_path, compiled, monkeypatch):
    good = build().kernel
    folder.rename(tmp_path / "moved")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "moved"))
    assert build().kernel == good
    assert len(compiled) == 1


def test_a_file_in_the_place_of_the_folder_costs_time_only(folder, compiled, logged):
    folder.write_text("")
    assert build().kernel == build().kernel
    assert len(compiled) == 2
    assert len(logged) == 1
    assert "compiled kernels are not kept for the next process, which starts slower" in logged[0]


def test_a_full_disk_costs_time_only(folder, compiled, monkeypatch, logged):
    real = open

    def full(file, mode="r", *more, **others):
        if "w" in mode and str(file).startswith(str(folder)):
            raise OSError(28, "No space left on device")
        return real(file, mode, *more, **others)

    monkeypatch.setattr(builtins, "open", full)
    assert build().kernel
    assert build(width=512).kernel
    assert "\n".join(logged).count("No space left on device") == 1


def test_two_processes_that_compile_a_kernel_at_once_both_have_it(folder, compiled):
    line = "import sys; sys.path.insert(0, sys.argv[1]); import test_kept_kernels as t; t.build()"
    here, root = Path(__file__).parent, Path(__file__).parents[3]
    paths = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    both = [
        subprocess.Popen([sys.executable, "-c", line, str(here)], env={**os.environ, "PYTHONPATH": paths})
        for _ in range(2)
    ]
    assert [one.wait(timeout=120) for one in both] == [0, 0]
    build()
    assert compiled == []
