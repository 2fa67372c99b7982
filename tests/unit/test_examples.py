"""The job files under examples/: each loads, or is listed with what it waits for."""

from pathlib import Path

import pytest

from search.errors import JobError
from search.job import SearchJob

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = {path.relative_to(EXAMPLES).as_posix(): path for path in sorted(EXAMPLES.rglob("*.yaml"))}
# What is refused so far; whoever makes one of these work takes its file off the list.
WAITING = {
    "paper/squad.yaml": "span",
    "paper/small_squad.yaml": "span",
}


def test_there_are_examples_and_the_list_names_no_other_file():
    assert "bbc_news.yaml" in FILES
    assert WAITING.keys() <= FILES.keys()


@pytest.mark.parametrize("name", [name for name in FILES if name not in WAITING])
def test_an_example_loads(name):
    assert SearchJob.load(FILES[name]).resolved_tasks()


@pytest.mark.parametrize("name", WAITING)
def test_a_listed_example_still_waits_for_what_is_not_supported_yet(name):
    with pytest.raises(JobError) as refused:
        SearchJob.load(FILES[name])
    waits = [str(problem) for problem in refused.value.problems if WAITING[name] in str(problem)]
    assert any("not supported yet" in problem for problem in waits)


def test_no_two_examples_have_one_name():
    lines = [
        line for path in FILES.values() for line in path.read_text().splitlines() if line.startswith("name:")
    ]
    assert len(set(lines)) == len(lines) == len(FILES)
