import pytest

from pipelines.errors import InputError
from pipelines.metrics import metrics_for
from pipelines.tasks.registry import (
    register,
    registered_entry,
    registered_hub,
    registered_task,
    registered_tasks,
    where_to_get,
)
from pipelines.tasks.task import Task

GLUE = {  # metric: Houlsby et al. 2019, Table 1; classes and sizes: Wang et al. 2019 as on the Hub
    "glue_cola": ("matthews", 2, (8551, 1043, 1063)),
    "glue_sst2": ("accuracy", 2, (67349, 872, 1821)),
    "glue_mrpc": ("f1", 2, (3668, 408, 1725)),
    "glue_stsb": ("spearman", 0, (5749, 1500, 1379)),
    "glue_qqp": ("f1", 2, (363846, 40430, 390965)),
    "glue_mnli": ("accuracy", 3, (392702, 9815, 9796)),
    "glue_qnli": ("accuracy", 2, (104743, 5463, 5463)),
    "glue_rte": ("accuracy", 2, (2490, 277, 3000)),
    "glue_wnli": ("accuracy", 2, (635, 71, 146)),
}
FURTHER = {  # Houlsby et al. 2019, Table 3: rows of train, validation, test; classes
    "newsgroups20": (15076, 1885, 1885, 20),
    "cf_airline": (11712, 1464, 1464, 3),
    "cf_corporate_messaging": (2494, 312, 312, 4),
    "cf_disasters": (8688, 1086, 1086, 2),
    "cf_economic_news_relevance": (6392, 799, 800, 2),
    "cf_emotion": (32000, 4000, 4000, 13),
    "cf_global_warming": (3380, 422, 423, 2),
    "cf_political_audience": (4000, 500, 500, 2),
    "cf_political_bias": (4000, 500, 500, 2),
    "cf_political_message": (4000, 500, 500, 9),
    "cf_primary_emotions": (2019, 252, 253, 18),
    "cf_progressive_opinion": (927, 116, 116, 3),
    "cf_progressive_stance": (927, 116, 116, 4),
    "cf_us_economic_performance": (3961, 495, 496, 2),
    "customer_complaints": (146667, 18333, 18334, 157),
    "news_aggregator": (338349, 42294, 42294, 4),
    "sms_spam": (4459, 557, 558, 2),
}


def test_the_registered_tasks_are_glue_the_further_ones_of_the_paper_and_squad():
    names = [task.name for task in registered_tasks()]
    assert names == sorted({*GLUE, *FURTHER, "squad_v1"})
    assert len(FURTHER) == 17


@pytest.mark.parametrize(("name", "expected"), GLUE.items())
def test_glue_tasks_have_the_metric_of_the_paper_and_a_place_on_the_hub(name, expected):
    entry = registered_entry(name)
    assert (entry.task.metric, entry.classes, entry.sizes) == expected
    assert entry.task.hub is None, "data_dir comes before the Hub"
    assert (entry.hub.path, entry.hub.config) == ("nyu-mll/glue", name.removeprefix("glue_"))
    assert len(entry.hub.text) == len(entry.task.text)
    assert entry.hub.labels == entry.labels
    assert (entry.labels == ()) == (entry.task.kind == "regression")
    assert entry.task.positive is None or entry.task.positive in entry.labels


def test_mnli_is_chosen_by_the_matched_genres_and_scored_on_the_mismatched_too():
    assert registered_hub("glue_mnli").validation == "validation_matched"
    assert registered_task("glue_mnli").also == ("validation_mismatched",)


@pytest.mark.parametrize(("name", "expected"), FURTHER.items())
def test_the_further_tasks_have_the_sizes_and_classes_of_the_paper(name, expected):
    entry = registered_entry(name)
    assert (*entry.sizes, entry.classes) == expected
    assert entry.task.metric == "accuracy"
    assert entry.prepared
    if name != "customer_complaints":  # its classes are the file's
        assert len(set(entry.labels)) == entry.classes


def test_squad_is_a_span_task_with_both_official_scores():
    entry = registered_entry("squad_v1")
    assert entry.task.recorded_metrics == ("squad_f1", "squad_em") == metrics_for("span")
    assert entry.sizes == (87599, 10570, 0)
    assert entry.hub.path == "rajpurkar/squad"


def test_a_task_that_needs_its_public_file_names_the_command():
    assert where_to_get(registered_task("cf_emotion")) == (
        "Get text_emotion.csv (docs/tasks.md says where), then: "
        "adaptune data prepare cf_emotion FILE --out <data_dir>"
    )


def test_a_task_of_one_s_own_is_told_which_columns_it_needs():
    task = Task(name="tickets", text=("body",), label="queue")
    assert "columns 'body', 'queue' into <data_dir>/tickets/." in where_to_get(task)


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(InputError) as caught:
        registered_task("glue_colla")
    assert str(caught.value) == "name = 'glue_colla': not a registered task. Did you mean 'glue_cola'?"


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="task 'glue_cola' is registered twice; rename one of them"):
        register(registered_entry("glue_cola"))
