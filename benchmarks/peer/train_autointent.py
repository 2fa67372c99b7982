"""AutoIntent's preset `classic-light` on the frozen encoder's vectors; a side of accuracy.py.

It is given train and validation; it may answer with no class at all, which counts as wrong. Settings as JSON
in, one line out.
"""

import json
import os
import sys
import tempfile

from rows import SPLITS, accuracy, answer, read_splits

PRESET = "classic-light"


def main(settings):
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # vectors of an earlier run would be found, and cost nothing
        import torch
        from autointent import Dataset, Pipeline
        from autointent.configs import LoggingConfig, SentenceTransformerEmbeddingConfig, TokenizerConfig

        torch.set_num_threads(settings["threads"])
        splits = read_splits(settings["rows"])
        classes = sorted(set(splits["train"][1]))
        known = {
            split: [
                {"utterance": text, "label": classes.index(label)}
                for text, label in zip(*splits[split], strict=True)
                if label in classes
            ]
            for split in SPLITS[:2]
        }
        pipeline = Pipeline.from_preset(PRESET, seed=settings["seed"] + 1)  # it refuses 0
        pipeline.set_config(
            SentenceTransformerEmbeddingConfig(
                model_name=settings["backbone_folder"],
                device="cpu",
                tokenizer_config=TokenizerConfig(max_length=settings["max_tokens"]),
            )
        )
        pipeline.set_config(LoggingConfig(project_dir=folder, dump_modules=False, clear_ram=False))
        context = pipeline.fit(Dataset.from_dict(known))
        scores = {}
        for split in SPLITS[1:]:
            columns = pipeline.predict(splits[split][0])
            predicted = [None if column is None else classes[column] for column in columns]
            scores[split] = accuracy(predicted, splits[split][1])
        chosen = [
            node["module_name"] for node in context.optimization_info.get_inference_nodes_config(asdict=True)
        ]
    answer(scores, f"{PRESET}: {', '.join(chosen)}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
