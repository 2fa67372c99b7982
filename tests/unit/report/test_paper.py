"""The paper's numbers, as they were copied: they have to agree with each other and with our tasks."""

import pytest

from pipelines.tasks.registry import registered_tasks
from search.report.paper import (
    ADAPTERS,
    ADAPTERS_64,
    FINE_TUNING,
    NO_BERT,
    TABLE_1,
    TABLE_1_COSTS,
    TABLE_2,
    TABLE_2_COSTS,
    VARIABLE,
)


@pytest.mark.parametrize(
    ("method", "printed"), [(NO_BERT, 72.7), (FINE_TUNING, 73.7), (VARIABLE, 74.0), (ADAPTERS, 73.3)]
)
def test_the_scores_of_table_2_have_the_mean_that_the_paper_prints(method, printed):
    mean = sum(task.scores[method].mean for task in TABLE_2.values()) / len(TABLE_2)
    assert mean == pytest.approx(printed, abs=0.1)


@pytest.mark.parametrize(
    ("cost", "tasks"),
    [
        (TABLE_1_COSTS[ADAPTERS], 9),
        (TABLE_1_COSTS[ADAPTERS_64], 9),
        (TABLE_2_COSTS[VARIABLE], 17),
        (TABLE_2_COSTS[ADAPTERS], 17),
    ],
)
def test_the_paper_counts_the_encoder_once_and_what_is_trained_for_each_task(cost, tasks):
    assert 1 + tasks * cost.trained / 100 == pytest.approx(cost.total, abs=0.1)
    assert (len(TABLE_1), len(TABLE_2)) == (9, 17)


def test_a_registered_task_has_the_metric_by_which_the_paper_scores_it():
    ours = {task.name: task.metric for task in registered_tasks()}
    theirs = {name: task.metric for name, task in (TABLE_1 | TABLE_2).items()}
    both = ours.keys() & theirs.keys()
    assert len(both) > 15
    assert {name: ours[name] for name in both} == {name: theirs[name] for name in both}


def test_every_registered_task_is_the_papers_but_wnli_which_it_leaves_out():
    ours = {task.name for task in registered_tasks() if task.kind != "span"}
    assert ours - {*TABLE_1, *TABLE_2} == {"glue_wnli"}
