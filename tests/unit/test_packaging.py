"""What an installed adaptune has beside its modules."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_licence_that_is_declared_is_there_in_full():
    (file,) = PROJECT["project"]["license-files"]
    text = (ROOT / file).read_text()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License\n" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_every_package_says_that_it_is_typed():
    tools = PROJECT["tool"]
    packages = tools["mypy"]["packages"]
    assert tools["setuptools"]["package-data"]["*"] == ["py.typed"]
    assert [name for name in packages if not (ROOT / name / "py.typed").exists()] == []
    assert sorted(packages) == sorted(
        pattern[:-1] for pattern in tools["setuptools"]["packages"]["find"]["include"]
    )


def test_every_file_that_is_no_module_comes_with_its_package():
    tools = PROJECT["tool"]
    beside = {
        (package, str(file.relative_to(ROOT / package)))
        for package in tools["mypy"]["packages"]
        for file in (ROOT / package).rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc") and file.name != "py.typed"
    }
    declared = tools["setuptools"]["package-data"]
    assert beside == {(package, name) for package in declared if package != "*" for name in declared[package]}
