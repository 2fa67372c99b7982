"""Job files that ask for more than any job: refused in bounded time, in a message of bounded length."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_files import job

from pipelines.errors import InputError
from search.errors import MOST_LINES, JobError, Problem
from search.job.file import MOST_CHARACTERS, MOST_VALUES, read_yaml
from search.job.job import SearchJob
from spaces.errors import FieldError

HEAD = "name: a\nbackbone: b\ntasks: [glue_cola]\n"
HEX = "0x" + "f" * 100_000
LINE = 3000  # characters: a problem's key, value, rule and fix, each cut
NINES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(  # h stands for 9^8 values
    f"{name}: &{name} [{','.join([f'*{below}'] * 9)}]\n" for below, name in pairwise("abcdefgh")
)


def refusal(tmp_path, text):
    path = tmp_path / "job.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(JobError) as caught:
        SearchJob.load(path)
    assert len(str(caught.value)) < LINE * (MOST_LINES + 1)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}{NINES}tasks: *h\n", f"has more than {MOST_VALUES:,} values, aliases written out. Write a"),
        (f"{HEAD}{NINES}<<: {{space: *h}}\n", f"has more than {MOST_VALUES:,} values"),
        (f"{HEAD}x: &a [1, *a]\n", "has an alias *a inside of what it stands for"),
        (f"{HEAD}x: &a {{k: *a}}\n", "has an alias *a inside of what it stands for"),
        (f"{HEAD}x: {'[' * 20_000}", "is nested more than 20 deep"),
        (f"{HEAD}x: {'{' * 20_000}", "is nested more than 20 deep"),
        (HEAD + "x:\n" + "".join(" " * i + "-\n" for i in range(1, 60)), "is nested more than 20 deep"),
        (
            f"{HEAD}a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 40)),
            "is nested more than 20 deep",
        ),
        (HEAD + "#" * MOST_CHARACTERS, f"has more than {MOST_CHARACTERS:,} characters"),
    ],
)
def test_a_file_larger_than_any_job_is_refused_in_one_short_line(tmp_path, text, message):
    refused = refusal(tmp_path, text)
    assert message in refused
    assert len(refused.splitlines()) == 2
    assert len(refused) < 300 + len(str(tmp_path)) * 2


def test_aliases_and_merges_of_an_ordinary_job_are_read(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("a: &a {x: [1, 2]}\nb: *a\nc: {<<: *a, y: 3}\nd: &a [4]\ne: *a\n")
    read = read_yaml(path)
    assert read["b"] == {"x": [1, 2]}
    assert read["c"] == {"x": [1, 2], "y": 3}
    assert read["e"] == [4]  # the later anchor counts


@pytest.mark.parametrize(
    "line",
    [
        f"space: {{learning_rate: {HEX}}}",
        f"space: {{learning_rate: {{low: {HEX}, high: 1}}}}",
        f"space: {{learning_rate: {{values: 1, when: {{adapter_size: {HEX}}}}}}}",
        f"search: {{trials: {HEX}}}",
        f"resources: {{cpus: {HEX}}}",
        f"resources: {{concurrent: {HEX}}}",
        f"budget: {{minutes: {HEX}}}",
        f"search: {{trials: {'9' * 100_000}}}",
        f"search: {{sampler: {'x' * 100_000}}}",
        f"{'x' * 1000}: 1",
        f"database: {'x' * 100_000}",
        f"pooling: *{'x' * 90_000}",
        f"pooling: !{'x' * 90_000} 1",
        f"method: [{', '.join(f'm{i}' for i in range(2000))}]",
    ],
)
def test_whatever_is_written_a_problem_is_a_line_of_bounded_length(tmp_path, line):
    lines = refusal(tmp_path, f"{HEAD}{line}\n").splitlines()
    assert all(len(line) < LINE for line in lines)


def test_of_very_many_problems_the_first_are_shown(tmp_path):
    refused = refusal(tmp_path, HEAD + "".join(f"k{i}: 1\n" for i in range(200)))
    assert refused.endswith(f"\n  and {200 - MOST_LINES} more")
    assert len(refused.splitlines()) == MOST_LINES + 2


@given(
    key=st.text(max_size=2000),
    value=st.one_of(st.text(max_size=2000), st.integers(), st.just(10**5000), st.just([10**5000])),
    rule=st.text(max_size=5000),
)
@pytest.mark.parametrize("error", [FieldError, InputError, Problem])
def test_every_kind_of_problem_has_a_bounded_message(error, key, value, rule):
    assert len(str(error(key, value, rule, rule))) < LINE


def test_an_integer_that_python_does_not_write_is_refused_from_python_too():
    with pytest.raises(JobError, match="needs 1000000 or less"):
        job(search={"trials": 10**5000})
