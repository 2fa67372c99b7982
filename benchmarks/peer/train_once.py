"""One training with Hugging Face's Trainer: adapters, or the whole encoder; sides of accuracy.py.

`adapters`: the library's default adapter with the settings of its training notebook (learning rate 1e-4,
6 epochs, batches of 32). `fine_tuning`: Mosbach et al. 2021 (arXiv:2006.04884) for small data: 20 epochs,
learning rate 2e-5, warm-up over a tenth, batches of 16. Settings as JSON in, one line out.
"""

import json
import sys
import tempfile

import torch
import transformers
from adapters import AdapterTrainer, AutoAdapterModel
from rows import SPLITS, accuracy, answer, read_splits
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

RECIPES = {
    "adapters": {"learning_rate": 1e-4, "num_train_epochs": 6, "per_device_train_batch_size": 32},
    "fine_tuning": {
        "learning_rate": 2e-5,
        "num_train_epochs": 20,
        "per_device_train_batch_size": 16,
        "warmup_ratio": 0.1,
        "weight_decay": 0.01,
    },
}


class Rows(torch.utils.data.Dataset):
    """Tokenised once; padded per batch by the collator."""

    def __init__(self, texts, labels, classes, tokenizer, max_tokens):
        self.encoded = tokenizer(texts, truncation=True, max_length=max_tokens)
        self.labels = [classes.index(label) for label in labels]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {**{key: rows[index] for key, rows in self.encoded.items()}, "labels": self.labels[index]}


def make_model(method, folder, classes):
    if method == "fine_tuning":
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(classes))
        return model, Trainer
    model = AutoAdapterModel.from_pretrained(folder)
    model.add_adapter("task")
    model.add_classification_head("task", num_labels=len(classes))
    model.train_adapter("task")
    return model, AdapterTrainer


def main(settings):
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(settings["threads"])
    transformers.set_seed(settings["seed"])
    splits = read_splits(settings["rows"])
    classes = sorted(set(splits["train"][1]))
    tokenizer = AutoTokenizer.from_pretrained(settings["backbone_folder"])
    model, trainer_type = make_model(settings["method"], settings["backbone_folder"], classes)
    known = {
        split: [label if label in classes else classes[0] for label in labels]
        for split, (_, labels) in splits.items()
    }
    data = {
        split: Rows(texts, known[split], classes, tokenizer, settings["max_tokens"])
        for split, (texts, _) in splits.items()
    }
    recipe = RECIPES[settings["method"]]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            **recipe,
            per_device_eval_batch_size=64,
            save_strategy="no",
            use_cpu=True,
            seed=settings["seed"],
            report_to="none",
            disable_tqdm=True,
            log_level="error",
        )
        trainer = trainer_type(
            model=model,
            args=arguments,
            train_dataset=data["train"],
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        trainer.train()
        scores = {}
        for split in SPLITS[1:]:
            outputs = trainer.predict(data[split]).predictions
            predicted = [classes[column] for column in outputs.argmax(-1)]
            scores[split] = accuracy(predicted, splits[split][1])
    answer(scores, f"learning rate {recipe['learning_rate']:g}, {recipe['num_train_epochs']} epochs")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
