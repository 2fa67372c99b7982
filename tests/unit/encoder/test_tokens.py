"""Tokenised tasks: what a trial sees, and what it cannot see."""

from dataclasses import fields

import numpy as np
from tiny import tiny_backbone, tiny_tokenizer

from pipelines.encoder.tokens import encode
from pipelines.tasks.encoded import EncodedTask, encode_task
from pipelines.tasks.labelled_rows import Examples
from pipelines.tasks.rows import TaskData
from pipelines.tasks.task import Task


def examples(*texts: str) -> Examples:
    return Examples(texts=tuple((text,) for text in texts), labels=np.arange(len(texts), dtype=np.int64) % 2)


def task_data(test_word: str) -> TaskData:
    return TaskData(
        task=Task(name="toy", text=("text",), metrics=("f1",)),
        labels=("a", "b"),
        train=examples("goal", "bank"),
        validation=examples("team", "price"),
        test=examples(test_word, test_word),
        notes=(),
        fingerprint="toy",
    )


def test_a_trial_cannot_see_the_test_set() -> None:
    # Whatever the test rows are, what a trial is given is the same to the last byte.
    seen = [encode_task(task_data(word), tiny_backbone(), max_tokens=8) for word in ("win", "market")]
    for one in fields(EncodedTask):
        first, second = (getattr(task, one.name) for task in seen)
        assert "test" not in one.name
        if one.name in ("train", "validation"):
            assert first.ids.tobytes() == second.ids.tobytes()
        elif isinstance(first, np.ndarray):
            assert first.tobytes() == second.tobytes()
        else:
            assert first == second


def test_texts_lie_one_after_the_other() -> None:
    tokenizer = tiny_tokenizer()
    tokens = encode([("goal team",), ("bank",)], tokenizer, max_tokens=8)
    expected = [tokenizer(text)["input_ids"] for text in ("goal team", "bank")]
    assert tokens.ids.tolist() == expected[0] + expected[1]
    assert tokens.lengths.tolist() == [4, 3]
    assert len(tokens) == 2


def test_a_pair_is_cut_where_it_is_longer() -> None:
    tokenizer = tiny_tokenizer()
    tokens = encode([("goal", "bank bank bank bank bank")], tokenizer, max_tokens=6)
    kept = tokenizer.convert_ids_to_tokens(tokens.ids.tolist())
    assert kept == ["[CLS]", "goal", "[SEP]", "bank", "bank", "[SEP]"]
    assert tokens.types is not None
    assert tokens.types.tolist() == [0, 0, 0, 1, 1, 1]


def test_the_metric_that_chooses_comes_first() -> None:
    task = encode_task(task_data("win"), tiny_backbone(), max_tokens=8)
    assert task.metrics == ("accuracy", "f1")
    assert task.outputs == 2
