"""SetFit (Tunstall et al. 2022) with its own defaults but for the number of pairs; a side of accuracy.py.

All pairs of a thousand rows would be days of a CPU, so `num_iterations` is set: for each text, that many
pairs of one class and as many of two. Settings as JSON in, one line out.
"""

import json
import sys
import tempfile

import torch
from datasets import Dataset
from rows import SPLITS, accuracy, answer, read_splits
from setfit import SetFitModel, Trainer, TrainingArguments


def main(settings):
    torch.set_num_threads(settings["threads"])
    splits = read_splits(settings["rows"])
    texts, labels = splits["train"]
    model = SetFitModel.from_pretrained(
        settings["backbone_folder"], labels=sorted(set(labels)), device="cpu", local_files_only=True
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_iterations=settings["iterations"],
            max_length=settings["max_tokens"],
            seed=settings["seed"],
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            show_progress_bar=False,
        )
        data = Dataset.from_dict({"text": texts, "label": labels})
        Trainer(model=model, args=arguments, train_dataset=data).train()
    scores = {
        split: accuracy(model.predict(splits[split][0], show_progress_bar=False), splits[split][1])
        for split in SPLITS[1:]
    }
    answer(scores, f"num_iterations {settings['iterations']}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
