"""The job files under examples/: each loads."""

from pathlib import Path

import pytest

from search.job.job import SearchJob

EXAMPLES = Path(__file__).parents[3] / "examples"
FILES = {path.relative_to(EXAMPLES).as_posix(): path for path in sorted(EXAMPLES.rglob("*.yaml"))}


def test_there_are_examples():
    assert "bbc_news.yaml" in FILES


@pytest.mark.parametrize("name", FILES)
def test_an_example_loads(name):
    assert SearchJob.load(FILES[name]).resolved_tasks()


def test_no_two_examples_have_one_name():
    lines = [
        line for path in FILES.values() for line in path.read_text().splitlines() if line.startswith("name:")
    ]
    assert len(set(lines)) == len(lines) == len(FILES)


@pytest.mark.parametrize("suite", ["glue", "further", "tradeoff", "squad", "init", "no_bert"])
def test_in_the_papers_suites_every_configuration_trains_to_its_end(suite):
    """The paper stopped none early."""
    assert SearchJob.load(FILES[f"paper/{suite}.yaml"]).search.scheduler == "none"
