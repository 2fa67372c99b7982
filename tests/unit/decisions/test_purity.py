"""Decisions are functions of a study's trials and the job's rules: nothing else is looked at."""

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "search" / "decisions"
BANNED = {
    "ray",
    "mlflow",
    "torch",
    "transformers",
    "sqlalchemy",
    "time",
    "datetime",
    "os",
    "pathlib",
    "random",
}
OURS = {"search.decisions", "search.record", "search.errors"}  # of `search`; none that reads or writes


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_decision_knows_no_cluster_no_tracker_no_clock_and_no_database(path):
    names = imported(path)
    assert {name.split(".")[0] for name in names} & BANNED == set()
    assert {
        name for name in names if name.startswith("search") and ".".join(name.split(".")[:2]) not in OURS
    } == set()
    assert not {name for name in names if name.startswith("optuna.storages")}


def test_optuna_is_known_where_configurations_are_proposed_alone():
    users = {path.stem for path in FOLDER.glob("*.py") if any(n.startswith("optuna") for n in imported(path))}
    assert users == {"proposals", "samplers"}
