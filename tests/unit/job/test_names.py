"""Names of kinds and metrics in a job file: whatever is in the tables when it is read."""

import pytest
from job_files import OWN, job

from pipelines.kinds import KINDS
from pipelines.kinds.regression import Regression
from pipelines.metrics import METRICS, Metric
from search.errors import JobError
from search.job.job import SearchJob, job_schema


@pytest.fixture
def stars(monkeypatch):
    """A kind and its metric, registered after the job file's classes were made."""

    class Stars(Regression):
        name = "stars"
        label = "stars"

    monkeypatch.setitem(KINDS, "stars", Stars())
    monkeypatch.setitem(
        METRICS, "within_one", Metric(name="within_one", kinds=("stars",), of="numbers", function=min)
    )


def enum_of(key):
    field = job_schema()["$defs"]["TaskPart"]["properties"][key]
    return next(choice["enum"] for choice in field["anyOf"] if "enum" in choice)


def test_a_kind_and_a_metric_from_outside_are_read(stars):
    read = job(tasks=[{**OWN, "kind": "stars"}])
    (task,) = read.resolved_tasks()
    assert (task.kind, task.metric, task.text, task.label) == ("stars", "within_one", ("text",), "stars")
    assert SearchJob.from_dict(read.to_dict()) == read


def test_the_schema_lists_kinds_and_metrics(stars):
    assert enum_of("kind") == [*KINDS]
    assert enum_of("metric") == [*METRICS]
    assert {"stars", "span"} <= {*KINDS}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "clasification"}, "tasks[0].kind = 'clasification': unknown value. Did you mean"),
        ({"kind": ["span"]}, "tasks[0].kind = ['span']: needs text. Write one value."),
        ({"metric": "acuracy"}, "tasks[0].metric = 'acuracy': unknown metric. Did you mean 'accuracy'?"),
        ({"kind": "span", "metric": "f1"}, "tasks[0].metric = 'f1': does not score a span"),
        ({"kind": "stars"}, "tasks[0].kind = 'stars': unknown value. Known: 'classification'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(changes, message):
    with pytest.raises(JobError) as caught:
        job(tasks=[{**OWN, **changes}])
    assert message in str(caught.value)
