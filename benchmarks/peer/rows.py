"""The rows that all sides of accuracy.py read, and the line by which they answer."""

import json
from pathlib import Path

SPLITS = ("train", "validation", "test")


def read_splits(folder):
    """Texts and labels of each split, as material.py's `write_rows` wrote them."""
    splits = {}
    for split in SPLITS:
        lines = Path(folder, f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        splits[split] = [row["text"] for row in rows], [row["label"] for row in rows]
    return splits


def accuracy(predicted, labels):
    """The share of labels that are predicted, 0 to 1."""
    right = sum(str(guess) == label for guess, label in zip(predicted, labels, strict=True))
    return right / len(labels)


def answer(scores, detail):
    """Print the one line: accuracy on validation and test, and what was fitted."""
    print(
        json.dumps({"validation": scores["validation"], "test": scores["test"], "detail": detail}), flush=True
    )
