"""The errors of each package: one tree, in one file, drawn at its top."""

import ast
import builtins
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("search", "spaces", "pipelines")


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


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
