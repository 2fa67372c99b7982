"""Which package may know which: read from the source, function bodies included."""

import ast
import builtins
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("search", "spaces", "pipelines")


def imported_roots(path):
    """The top-level names that a module imports, at its head or anywhere in it."""
    roots = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(path.parent.name if node.level else (node.module or "").split(".")[0])
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"}:
                roots.add(str(node.args[0].value).split(".")[0])
    return roots


def modules(package):
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize(
    ("package", "banned"),
    [
        ("spaces", {"ray", "mlflow", "torch", "transformers", "datasets", "pipelines", "search"}),
        ("pipelines", {"ray", "mlflow", "optuna", "spaces", "search"}),
    ],
)
def test_package_never_imports(package, banned):
    found = {path.name: imported_roots(path) & banned for path in modules(package)}
    assert {name: roots for name, roots in found.items() if roots} == {}


def test_datasets_is_imported_where_rows_are_read_alone():
    users = [path.name for path in modules("pipelines") if "datasets" in imported_roots(path)]
    assert users == ["readers.py"]


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_of_ours_imports_pickle(package):
    """Ray pickles what it sends between its own processes; nothing of ours is kept that way."""
    banned = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    assert [path.name for path in modules(package) if imported_roots(path) & banned] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_of_ours_loads_or_saves_by_torchs_pickle(package):
    calls = [
        (path.name, node.lineno)
        for path in modules(package)
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
def test_an_import_is_found_wherever_it_stands(tmp_path, source):
    (tmp_path / "module.py").write_text(source)
    assert "ray" in imported_roots(tmp_path / "module.py")


def classes(path):
    """The classes of a module by name, each with the names of its bases."""
    return {
        node.name: [base.id for base in node.bases if isinstance(base, ast.Name)]
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_error_of_a_package_stands_in_its_one_file(package):
    builtin = {name for name, kind in vars(builtins).items() if isinstance(kind, type)}
    errors = {name for name in builtin if issubclass(getattr(builtins, name), BaseException)}
    ours = {*errors, *(name for path in ROOT.glob("*/errors.py") for name in classes(path))} - {"Problem"}
    strays = {
        f"{path.parent.name}/{path.name}: {name}"
        for path in modules(package)
        for name, bases in classes(path).items()
        if path != ROOT / package / "errors.py" and ours & set(bases)
    }
    assert strays == set()


@pytest.mark.parametrize(("package", "base"), [("search", "SearchError"), ("pipelines", "PipelineError")])
def test_the_tree_of_errors_that_is_drawn_is_the_one_that_there_is(package, base):
    path = ROOT / package / "errors.py"
    drawn = []
    for line in ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).splitlines():
        if match := re.match(r"([│├└─ ]*)(\w+) {2,}", line):
            drawn.append((len(match[1]) // 4, match[2]))
    tree, parents = {}, []
    for depth, name in drawn:
        parents[depth:] = [name]
        tree[name] = parents[depth - 1] if depth else "Exception"
    bases = {name: kinds[0] for name, kinds in classes(path).items() if kinds}
    assert tree == bases
    assert drawn[0] == (0, base)
