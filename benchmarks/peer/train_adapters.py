"""One adapter with `adapters` and Hugging Face's Trainer, as a user would write it; peer of train_ours.py.

Runs in the peers' environment and imports nothing of ours. Settings as JSON in, one JSON line per epoch out;
it says `ready` when all is loaded and begins at a line on its standard input.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from adapters import AdapterTrainer, AutoAdapterModel, DoubleSeqBnConfig
from transformers import AutoTokenizer, DataCollatorWithPadding, TrainerCallback, TrainingArguments


def read_rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Rows(torch.utils.data.Dataset):
    """Tokenised once; padded per batch by the collator."""

    def __init__(self, rows, labels, tokenizer, max_tokens):
        texts = [row["text"] for row in rows]
        self.encoded = tokenizer(texts, truncation=True, max_length=max_tokens)
        self.labels = [labels.index(row["label"]) for row in rows]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {**{key: rows[index] for key, rows in self.encoded.items()}, "labels": self.labels[index]}


class CountingCollator(DataCollatorWithPadding):
    """Pads to the longest text of a batch, as the default, and counts what it padded to."""

    padded_tokens = 0

    def __call__(self, features):
        batch = super().__call__(features)
        self.padded_tokens += batch["input_ids"].numel()
        return batch


class EpochClock(TrainerCallback):
    """Seconds of training alone: from an epoch's begin to its end, before validation and saving."""

    def __init__(self, collator, precision):
        self.collator, self.precision = collator, precision

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.collator.padded_tokens = 0
        self.began = time.perf_counter()

    def on_epoch_end(self, args, state, control, **kwargs):
        self.seconds = time.perf_counter() - self.began
        self.padded_tokens = self.collator.padded_tokens

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        line = {
            "seconds": self.seconds,
            "accuracy": metrics["eval_accuracy"],
            "padded_tokens": self.padded_tokens,
            "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "precision": self.precision,
        }
        print(json.dumps(line), flush=True)


def make_trainer(settings, folder, collator_type=DataCollatorWithPadding):
    """The trainer that a user's script would have; checkpoints go to `folder`."""
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(settings["threads"])
    rows = {split: read_rows(Path(settings["rows"], f"{split}.jsonl")) for split in ("train", "validation")}
    labels = sorted({row["label"] for row in rows["train"]})
    tokenizer = AutoTokenizer.from_pretrained(settings["backbone_folder"])
    transformers.set_seed(settings["seed"])
    model = AutoAdapterModel.from_pretrained(settings["backbone_folder"])
    # DoubleSeqBnConfig is the library's name for the adapters of Houlsby et al. 2019.
    factor = model.config.hidden_size / settings["adapter_size"]
    model.add_adapter("task", config=DoubleSeqBnConfig(reduction_factor=factor))
    model.add_classification_head("task", num_labels=len(labels))
    model.train_adapter("task")
    data = {split: Rows(rows[split], labels, tokenizer, settings["max_tokens"]) for split in rows}
    arguments = TrainingArguments(
        folder,
        learning_rate=settings["learning_rate"],
        num_train_epochs=settings["epochs"],
        per_device_train_batch_size=settings["batch_size"],
        per_device_eval_batch_size=64,
        warmup_ratio=0.1,
        weight_decay=0.0,
        eval_strategy="epoch",
        save_strategy="epoch",
        bf16=settings["precision"] == "bf16",
        use_cpu=True,
        seed=settings["seed"],
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )
    return AdapterTrainer(
        model=model,
        args=arguments,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        data_collator=collator_type(tokenizer),
        compute_metrics=lambda p: {"accuracy": float(np.mean(p.predictions.argmax(-1) == p.label_ids))},
    )


def main(settings):
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(settings, folder, CountingCollator)
        trainer.add_callback(EpochClock(trainer.data_collator, settings["precision"]))
        print("ready", flush=True)
        sys.stdin.readline()
        trainer.train()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
