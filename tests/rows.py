"""Rows of a task as files."""

import json

from pipelines.tasks.task import Files, Task

ROWS = [("good one", "pos"), ("bad one", "neg")] * 10


def write(path, rows):
    """Rows of (text, ..., label) as jsonl."""
    names = ("text", "label") if len(rows[0]) == 2 else ("text_a", "text_b", "label")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows))
    return str(path)


def make(folder, train=ROWS, validation=ROWS, test=ROWS, **changes):
    given = {"train": train, "validation": validation, "test": test}
    files = Files(**{name: write(folder / f"{name}.jsonl", rows) for name, rows in given.items() if rows})
    return Task(**{"name": "mood", "text": ("text",), "files": files, **changes})
