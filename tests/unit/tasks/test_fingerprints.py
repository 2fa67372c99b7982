"""A task's fingerprint decides whether a search may be resumed: these are those of commit 438765f."""

import json

import pytest

from pipelines import read_task
from pipelines.tasks.task import Files, Task

WORDS = ("rain", "été", "wind\n", "snow ", '"quoted"')


def write(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def tickets(count, first=0):
    """Texts of three classes, one of them rare."""
    return [
        {"text": f"{WORDS[n % 5]} {n}", "label": "rare" if n % 10 == 9 else ("no", "yes")[n % 2]}
        for n in range(first, first + count)
    ]


def classification(tmp_path, **changes):
    return Task(
        name="tickets", text=("text",), files=Files(train=write(tmp_path / "a.jsonl", tickets(60))), **changes
    )


def pairs(tmp_path):
    rows = [{"a": f"{WORDS[n % 5]}", "b": f"{n} and", "label": ("x", "y")[n // 2 % 2]} for n in range(12)]
    splits = {
        name: write(tmp_path / f"{name}.jsonl", rows[n::3])
        for n, name in enumerate(("train", "validation", "test"))
    }
    return Task(name="pairs", text=("a", "b"), files=Files(**splits))


def regression(tmp_path):
    rows = [{"text": f"{WORDS[n % 5]} {n}", "label": n * 0.1} for n in range(40)]
    train, validation = write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", rows[:5])
    return Task(
        name="stars",
        kind="regression",
        text=("text",),
        files=Files(train=train, validation=validation),
        limit={"train": 17},
    )


def span(tmp_path):
    articles = [
        {
            "title": f"A{article}",
            "paragraphs": [
                {
                    "context": f"one two {article} three",
                    "qas": [
                        {
                            "id": f"{article}-{n}",
                            "question": f"Which is {n}?",
                            "answers": [{"text": "two", "answer_start": 4 if n else 5}],
                        }
                        for n in range(3)
                    ],
                }
            ],
        }
        for article in range(20)
    ]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"version": "1.1", "data": articles}), encoding="utf-8")
    return Task(
        name="faq",
        kind="span",
        text=("question", "context"),
        label="answers_text",
        files=Files(train=str(path)),
        limit={"train": 30},
    )


def further_sets(tmp_path):
    """From a data_dir, with a further labelled set."""
    folder = tmp_path / "tickets"
    folder.mkdir()
    for name, first in (("train", 0), ("validation", 100), ("test", 200), ("winter", 300)):
        write(folder / f"{name}.jsonl", tickets(20, first))
    return Task(name="tickets", text=("text",), also=("winter", "absent"))


CASES = {
    "cut": classification,
    "limited": lambda tmp_path: classification(tmp_path, limit={"train": 20, "validation": 3, "test": 2}),
    "pairs": pairs,
    "regression": regression,
    "span": span,
    "further sets": further_sets,
}
DIGESTS = {  # computed by that commit
    "cut": "70924e5c9a711f23ed2b678da16b3e50640796753eb122485dc35430d3700737",
    "limited": "b2af3c18ef9fe2a4435027adc7d91461001c836a209aa9523759b050664f63e1",
    "pairs": "3aca1bddf3bc6138f4d3f1eb6152aa9ec1f5aed53a8de7b6116b38366d8c734e",
    "regression": "470b8ce6cfecb0a2709e0a5443301e8306eb0b84fe0b5703237f2acbdff8529f",
    "span": "30c99f11c7c2a606d552959a313101256b775e4f4a593a4b85cca4ae62508369",
    "further sets": "250e9a8eb13faa5c2860cb689f24450c15aa50a9004096f17d05580df6b532bd",
}


@pytest.mark.parametrize("case", CASES)
def test_rows_have_the_fingerprint_that_earlier_records_hold(tmp_path, case):
    data = read_task(CASES[case](tmp_path), data_dir=str(tmp_path))
    assert data.fingerprint == DIGESTS[case]
