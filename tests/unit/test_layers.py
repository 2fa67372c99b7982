"""Which module may know which: read from the source, function bodies and TYPE_CHECKING blocks included."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("search", "spaces", "pipelines")


def module_name(path: Path, root: Path = ROOT) -> str:
    """A file's dotted name; that of a package for its __init__.py."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, root: Path = ROOT) -> set[str]:
    """The dotted names that a module imports, wherever in it: of `from a.b import c` both a.b and a.b.c."""
    own = module_name(path, root).split(".")
    package = own if path.name == "__init__.py" else own[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"}:
                found.add(str(node.args[0].value))
    return found


def imported_roots(path: Path, root: Path = ROOT) -> set[str]:
    """The top-level names among them."""
    return {name.partition(".")[0] for name in imported(path, root)}


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


@cache
def graph() -> dict[str, set[str]]:
    """Our modules, and which of ours each imports; a package stands for its __init__."""
    modules = {module_name(path): path for package in PACKAGES for path in files(package)}
    edges = {}
    for name, path in modules.items():
        known = {other for other in imported(path) if other in modules and other != name}
        edges[name] = {other for other in known if not any(more.startswith(f"{other}.") for more in known)}
    return edges


def room(module: str) -> str:
    """search.cli.app is in search.cli; search.study stands on the ground floor, in a room of its own."""
    return ".".join(module.split(".")[:2])


def circles(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """The first circle, if there is one."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        yield error.args[1]


# What a package, and what a room, never imports.
BANNED = {
    "spaces": {"ray", "mlflow", "torch", "transformers", "datasets", "pipelines", "search"},
    "pipelines": {"ray", "mlflow", "optuna", "spaces", "search"},
    "search.decisions": {"ray", "mlflow", "torch", "time", "datetime"},
    "search.job": {"ray", "mlflow", "torch", "optuna"},
    "search.report": {"ray", "mlflow", "optuna"},
    "search.tracking": {"ray", "torch", "optuna"},
}

# From the ground up: a room may know those below it, never one above it or beside it.
FLOORS = {
    "pipelines": [
        "errors texts",
        "files locations results metrics config",
        "encoder",
        "tasks",
        "kinds epochs intervals",
        "method",
        "bundle_files packs towers probe checkpoint folds",
        "methods bundle",
        "analyses",
    ],
    "search": [
        "secrets escapes",
        "addresses",
        "errors",
        "wire storage record",
        "database liveness decisions probe commands verdict trials",
        "study job",
        "local driver plan tables results tested importance cluster",
        "workers experience",
        "agenda",
        "searcher card floor leaders progress report tracking glue_submission",
        "tuning winner delivery",
        "runner",
        "cli",
    ],
}


@pytest.mark.parametrize(("place", "banned"), BANNED.items())
def test_a_package_or_room_never_imports(place: str, banned: set[str]) -> None:
    paths = files(place.replace(".", "/"))
    found = {module_name(path): imported_roots(path) & banned for path in paths}
    assert {name: roots for name, roots in found.items() if roots} == {}


def test_no_module_knows_itself_by_way_of_others() -> None:
    assert list(circles(graph())) == []


def test_no_room_knows_itself_by_way_of_others() -> None:
    edges: dict[str, set[str]] = {}
    for name, others in graph().items():
        edges.setdefault(room(name), set()).update(
            room(other) for other in others if room(other) != room(name)
        )
    assert list(circles(edges)) == []


@pytest.mark.parametrize("package", FLOORS)
def test_a_room_knows_those_below_it_alone(package: str) -> None:
    floors = FLOORS[package]
    level = {name: number for number, names in enumerate(floors) for name in names.split()}
    rooms = {room(name).partition(".")[2] for name in graph() if name.startswith(f"{package}.")}
    assert rooms == level.keys()
    wrong = {
        f"{name} knows {other}"
        for name, others in graph().items()
        for other in others
        if name.startswith(f"{package}.") and other.startswith(f"{package}.") and room(name) != room(other)
        if level[room(other).partition(".")[2]] >= level[room(name).partition(".")[2]]
    }
    assert wrong == set()


def test_datasets_is_imported_where_rows_are_read_alone() -> None:
    users = [module_name(path) for path in files("pipelines") if "datasets" in imported_roots(path)]
    assert users == ["pipelines.tasks.readers"]


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_of_ours_imports_pickle(package: str) -> None:
    """Ray pickles what it sends between its own processes; nothing of ours is kept that way."""
    banned = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    assert [module_name(path) for path in files(package) if imported_roots(path) & banned] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_of_ours_loads_or_saves_by_torchs_pickle(package: str) -> None:
    calls = [
        (module_name(path), node.lineno)
        for path in files(package)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in {"load", "save"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "torch"
    ]
    assert calls == []


@pytest.mark.parametrize(
    "source",
    [
        "import ray",
        "import ray.tune as t",
        "from ray.tune import Tuner",
        "def f():\n    import ray",
        "class A:\n    def f(self):\n        from ray import tune",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ray",
        "from importlib import import_module\nimport_module('ray.tune')",
        "import importlib\nimportlib.import_module('ray')",
        "__import__('ray')",
    ],
)
def test_an_import_is_found_wherever_it_stands(tmp_path: Path, source: str) -> None:
    (tmp_path / "module.py").write_text(source)
    assert "ray" in imported_roots(tmp_path / "module.py", tmp_path)


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from . import other", "package.room.other"),
        ("from .other import name", "package.room.other"),
        ("from .. import top", "package.top"),
        ("from ..elsewhere.deep import name", "package.elsewhere.deep"),
        ("from package.room import other", "package.room.other"),
        ("import package.room.other", "package.room.other"),
    ],
)
def test_a_relative_import_is_found_by_its_whole_name(tmp_path: Path, source: str, module: str) -> None:
    path = tmp_path / "package" / "room" / "module.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert module in imported(path, tmp_path)


def test_a_circle_is_found_and_a_straight_line_is_none() -> None:
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": set()})) == []
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"a"}})) != []


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {
        module_name(path): len(path.read_text(encoding="utf-8").splitlines())
        for package in PACKAGES
        for path in files(package)
    }
    assert {name: length for name, length in lengths.items() if length > 400} == {}
