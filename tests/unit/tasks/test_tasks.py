import dataclasses
import pickle

import pytest

from pipelines.errors import InputError, InputErrors
from pipelines.kinds import KINDS
from pipelines.tasks.registry import registered_task
from pipelines.tasks.task import Files, Hub, SplitRule, Task


def make(**changes):
    return Task(**{"name": "tickets", "text": ("body",), **changes})


@pytest.mark.parametrize(("kind", "metric"), [("classification", "accuracy"), ("regression", "spearman")])
def test_a_task_without_a_metric_has_that_of_its_kind(kind, metric):
    assert make(kind=kind).metric == metric
    assert registered_task("squad_v1").metric == "squad_f1"


def test_recorded_metrics_are_the_chosen_one_then_the_others_once_each():
    task = make(metric="f1", metrics=("accuracy", "f1"))
    assert task.recorded_metrics == ("f1", "accuracy")


def test_a_task_survives_replace_and_pickle():
    task = dataclasses.replace(make(kind="regression"), limit={"train": 5})
    assert pickle.loads(pickle.dumps(task)) == task  # noqa: S301


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "name = 'a/b': is no name: folders are called by it. Use 1 to 100 letters"),
        ({"name": "a..b"}, "name = 'a..b': is no name"),
        ({"name": ".hidden"}, "name = '.hidden': is no name"),
        ({"name": "a" * 101}, "is no name"),
        ({"name": "tickets\n"}, "is no name"),
        ({"text": ()}, "text = (): needs one or two columns. Name one column, or [first, second] for pairs."),
        ({"text": ("a", "b", "c")}, "text = ('a', 'b', 'c'): needs one or two columns"),
        ({"text": ("a", "a")}, "text and label ('label') need different columns. Name each column once."),
        ({"text": ("label",)}, "text and label ('label') need different columns"),
        ({"kind": "regresion"}, "kind = 'regresion': not a kind of task. Did you mean 'regression'?"),
        ({"metric": "acuracy"}, "metric = 'acuracy': unknown metric. Did you mean 'accuracy'?"),
        (
            {"metric": "spearman"},
            "metric = 'spearman': does not score a classification. Known: 'accuracy', ",
        ),
        ({"kind": "regression", "metrics": ("f1",)}, "metrics = 'f1': does not score a regression"),
        (
            {"positive": "spam"},
            "positive = 'spam': is for f1, which is not recorded. Leave it out, or add f1",
        ),
        ({"limit": {"train": 0}}, "limit.train = 0: needs at least 1 row. Leave it out to use all rows."),
        ({"limit": {"trian": 5}}, "limit.trian = 5: not a split. Did you mean 'train'?"),
        (
            {"files": Files(train="/a.csv"), "hub": Hub(path="imdb")},
            "hub = 'imdb': the task has files as well. Keep one of the two.",
        ),
    ],
)
def test_a_task_that_cannot_be_is_refused_at_birth(changes, message):
    with pytest.raises(InputError) as caught:
        make(**changes)
    assert message in str(caught.value)


def test_a_kind_without_a_metric_is_named(monkeypatch):
    monkeypatch.setitem(KINDS, "stars", KINDS["regression"])
    with pytest.raises(InputError, match=r"kind = 'stars': has no metric.*register_metric"):
        make(kind="stars")


def test_several_wrong_fields_are_reported_together():
    with pytest.raises(InputErrors) as caught:
        make(name="../x", text=(), limit={"train": 0})
    assert [problem.key for problem in caught.value.problems] == ["name", "text", "limit.train"]
    assert str(caught.value).startswith("3 problems\n  name = '../x': is no name")
    assert pickle.loads(pickle.dumps(caught.value)).problems[2].value == 0  # noqa: S301


@pytest.mark.parametrize("source", [Files, lambda **splits: Hub(path="imdb", **splits)])
def test_rows_that_serve_as_two_splits_are_refused(source):
    with pytest.raises(InputError, match="is what validation is read from"):
        source(train="a", validation="b", test="b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"validation": 0.0},
            "split.validation = 0.0: needs a fraction between 0 and 1. Write 0.1 for a tenth.",
        ),
        ({"test": 10}, "split.test = 10: needs a fraction between 0 and 1"),
        ({"test": float("nan")}, "split.test = nan: needs a fraction between 0 and 1"),
        ({"validation": 0.5, "test": 0.5}, "validation and test together leave no row to train on"),
        ({"seed": -1}, "split.seed = -1: needs to be 0 or more"),
    ],
)
def test_a_split_rule_that_cannot_be_is_refused_at_birth(changes, message):
    with pytest.raises(InputError) as caught:
        SplitRule(**changes)
    assert message in str(caught.value)
