"""What a winner answered on test: kept beside the bundle, read by the report, and never in the way."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.encoder.tokens import Tokens
from pipelines.kinds import KINDS
from pipelines.tasks.labelled_rows import Examples
from pipelines.tasks.rows import TaskData
from pipelines.tasks.span_rows import SpanExample
from pipelines.tasks.task import Task
from search.storage import Storage, answers_key, bundle_key
from search.tested import (
    ANSWERS,
    MOST_CHARACTERS,
    MOST_CLASSES,
    OUTPUTS,
    Answers,
    answers_of,
    form_of,
    keep_answers,
    read_answers,
)

KEY = answers_key("job", "t", "adapter")


def task_data(texts, labels, *, names=("ham", "spam"), kind="classification"):
    split = Examples(texts=tuple((text,) for text in texts), labels=np.array(labels))
    return TaskData(
        task=Task(name="t", text=("text",), kind=kind),
        labels=names,
        train=split,
        validation=split,
        test=split,
        notes=("train: something odd",),
        fingerprint="",
    )


def kept(tmp_path, data, answers):
    storage = Storage(str(tmp_path))
    keep_answers(storage, "job", "adapter", data, 64, answers)
    return read_answers(storage, KEY)


def classes(probabilities, targets):
    return Answers("classes", np.array(probabilities), np.array(targets), {"test": [2, 1]}, {"train": 0.25})


def test_outputs_targets_and_facts_come_back_as_they_were_kept(tmp_path):
    data = task_data(["a", "bcd", "ef"], [0, 1, 0])
    found = kept(tmp_path, data, classes([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]], [0, 1, 0]))
    assert found.predicted.tolist() == [[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]]
    assert (found.targets.tolist(), found.lengths.tolist()) == ([0, 1, 0], [1, 3, 2])
    assert (found.labels, found.notes) == (("ham", "spam"), ("train: something odd",))
    assert (found.sizes["test"], found.counts, found.truncated) == (3, {"test": [2, 1]}, {"train": 0.25})
    assert found.max_tokens == 64


def test_the_mistakes_are_the_surest_wrong_answers_first(tmp_path):
    data = task_data(["right", "unsure", "sure"], [0, 0, 0])
    found = kept(tmp_path, data, classes([[0.99, 0.01], [0.4, 0.6], [0.1, 0.9]], [0, 0, 0]))
    assert [(one.row, one.text, one.expected, one.answered) for one in found.mistakes] == [
        (2, "sure", "ham", "spam"),
        (1, "unsure", "ham", "spam"),
    ]
    assert [one.score for one in found.mistakes] == [0.9, 0.6]


def test_no_more_texts_are_kept_than_are_shown_and_long_ones_are_cut(tmp_path):
    data = task_data(["x" * 1000] * 50, [0] * 50)
    found = kept(tmp_path, data, classes([[0.1, 0.9]] * 50, [0] * 50))
    assert len(found.mistakes) == MOST_CLASSES
    assert all(len(one.text) == MOST_CHARACTERS for one in found.mistakes)


def test_numbers_are_sorted_by_how_far_off_they_are(tmp_path):
    data = task_data(["a", "b", "c"], [1.0, 2.0, 3.0], names=(), kind="regression")
    found = kept(
        tmp_path, data, Answers("numbers", np.array([1.5, 5.0, 1.0]), np.array([1.0, 2.0, 3.0]), {}, {})
    )
    assert [(one.row, one.score) for one in found.mistakes] == [(1, 3.0), (2, -2.0), (0, 0.5)]


def test_spans_have_a_score_for_each_question_and_the_worst_with_their_answers(tmp_path):
    questions = tuple(
        SpanExample(
            id=str(n), title="", context="Ada wrote it.", question="Who?", answers=("Ada",), starts=(0,)
        )
        for n in range(2)
    )
    data = TaskData(
        task=Task(name="t", text=("question", "context"), label="answers_text", kind="span"),
        train=questions,
        validation=questions,
        test=questions,
        notes=(),
        fingerprint="",
    )
    found = kept(tmp_path, data, Answers("answers", ["Ada", "it"], [("Ada",), ("Ada",)], {}, {}))
    assert found.predicted.tolist() == [1.0, 0.0]
    (worst,) = found.mistakes
    assert (worst.row, worst.text, worst.expected, worst.answered) == (1, "Who? | Ada wrote it.", "Ada", "it")


def test_texts_lie_beside_the_bundle_not_in_it(tmp_path):
    kept(tmp_path, task_data(["secret"], [0]), classes([[0.1, 0.9]], [0]))
    with_text = [path for path in tmp_path.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    assert [path.name for path in with_text] == [ANSWERS]
    assert not (tmp_path / bundle_key("job", "t", "adapter")).exists()


def test_without_the_file_of_texts_the_outputs_are_still_there(tmp_path):
    kept(tmp_path, task_data(["secret"], [0]), classes([[0.1, 0.9]], [0]))
    (tmp_path / KEY / ANSWERS).unlink()
    found = read_answers(Storage(str(tmp_path)), KEY)
    assert (found.form, found.predicted.shape, found.mistakes) == ("classes", (1, 2), ())


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 99, None])
@pytest.mark.parametrize("name", [OUTPUTS, ANSWERS])
def test_files_that_are_damaged_or_gone_are_as_if_nothing_had_been_kept(tmp_path, name, content):
    kept(tmp_path, task_data(["a"], [0]), classes([[0.1, 0.9]], [0]))
    path = tmp_path / KEY / name
    path.unlink() if content is None else path.write_bytes(content)
    found = read_answers(Storage(str(tmp_path)), KEY)
    assert found is None or (name, content) == (ANSWERS, None)


def test_what_a_newer_version_kept_is_left_alone(tmp_path):
    kept(tmp_path, task_data(["a"], [0]), classes([[0.1, 0.9]], [0]))
    path = tmp_path / KEY / ANSWERS
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    assert read_answers(Storage(str(tmp_path)), KEY) is None


def test_every_kind_of_ours_has_a_form():
    assert {kind: form_of(kind) for kind in ("classification", "regression", "span")} == {
        "classification": "classes",
        "regression": "numbers",
        "span": "answers",
    }


def test_the_share_of_texts_that_are_cut_is_told_of_every_split_that_is_read_as_tokens():
    def tokens(*lengths):
        return Tokens(np.zeros(sum(lengths), np.int32), np.cumsum([0, *lengths]), None)

    task = SimpleNamespace(
        name="t",
        kind="classification",
        rules=KINDS["classification"],
        outputs=2,
        scale=None,
        max_tokens=8,
        train=tokens(8, 3, 8, 8),
        train_targets=np.array([0, 1, 0, 0]),
        validation=tokens(2, 8),
        validation_targets=np.array([0, 1]),
    )
    outputs, targets = np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([0, 1])
    found = answers_of(task, outputs, targets, tokens(3, 4))
    assert found.truncated == {"train": 0.75, "validation": 0.5, "test": 0.0}
    assert found.counts == {"train": [3, 1], "validation": [1, 1], "test": [1, 1]}
    assert found.predicted[1].tolist() == [0.5, 0.5]  # probabilities, not logits
    assert answers_of(task, outputs, targets, None).truncated == {"train": 0.75, "validation": 0.5}


def test_what_a_kind_cannot_tell_costs_no_search_its_winner(tmp_path):
    broken = SimpleNamespace(name="t", kind="classification", rules=KINDS["regression"], outputs=2)
    assert answers_of(broken, np.zeros((1, 2)), np.zeros(1), None) is None
    assert kept(tmp_path, task_data(["a"], [0]), None) is None
    assert kept(tmp_path, task_data(["a"], [0]), Answers("classes", "nonsense", None, {}, {})) is None
