"""How many tokens does a pack compute for each token of its texts?

    python benchmarks/padding.py --data-dir DATA            # a table
    python benchmarks/padding.py --data-dir DATA --json     # task -> K -> padded over real tokens

Members have their own batches of 32, each from another seed and at another step of its first epoch, as trials
that joined at different times do; `mixed` has four tasks in one pack. Nothing is trained: batches are drawn
and laid out as in training, and their tokens counted.

- layers: what all but attention computes, over the real tokens; the last tile of a place is half empty.
- attention: the same of attention's groups of texts of like length.
- padded: were every text as long as the longest of the step, as before.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout where nothing is installed

import numpy as np
import torch
from material import MINILM, backbone_folder
from transformers import AutoTokenizer

from pipelines.encoder.batches import training_batches
from pipelines.encoder.tokens import Tokens, encode
from pipelines.packs.batches import Part, flat_batch
from pipelines.tasks.registry import registered_task
from pipelines.tasks.rows import read_task

TASKS = ("sms_spam", "glue_cola", "cf_airline", "glue_rte")
PLACES = (1, 8, 32)
BATCH = 32
MAX_TOKENS = 128
STEPS = 40


def read_tokens(name: str, data_dir: str, tokenizer: object) -> Tokens:
    train = read_task(registered_task(name), data_dir=data_dir).train
    return encode(train.texts, tokenizer, MAX_TOKENS)


def count(members: Sequence[Tokens], seed: int) -> tuple[float, float, float]:
    """Tokens computed over real ones: in the layers, in attention, and were all padded to the longest."""
    rng = np.random.default_rng(seed)
    batches = [training_batches(own.lengths, BATCH, seed=k, epoch=1) for k, own in enumerate(members)]
    real = layers = attention = padded = 0
    for _ in range(STEPS):
        parts = [
            Part(place, tokens, own[rng.integers(len(own))])
            for place, (tokens, own) in enumerate(zip(members, batches, strict=True))
        ]
        batch, layout = flat_batch(parts, pad_id=0, device=torch.device("cpu"))
        lengths = [part.tokens.lengths[part.indices] for part in parts]
        real += sum(int(own.sum()) for own in lengths)
        layers += batch.input_ids.numel()
        assert layout.flat is not None
        attention += sum(mask.numel() for mask in layout.flat.masks)
        padded += max(map(len, lengths)) * len(parts) * max(int(own.max()) for own in lengths)
    return layers / real, attention / real, padded / real


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="where the tasks' folders lie")
    parser.add_argument("--backbone", default=MINILM, help="whose tokenizer is used")
    parser.add_argument(
        "--json", action="store_true", help="task -> K -> tokens of the layers over real ones"
    )
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(backbone_folder(options.backbone))
    tokens = {name: read_tokens(name, options.data_dir, tokenizer) for name in TASKS}
    packs = {name: {k: [own] * k for k in PLACES} for name, own in tokens.items()}
    packs["mixed"] = {k: [tokens[TASKS[place % len(TASKS)]] for place in range(k)] for k in PLACES if k > 1}
    found = {name: {k: count(members, k) for k, members in own.items()} for name, own in packs.items()}
    if options.json:
        print(json.dumps({name: {k: round(own[k][0], 4) for k in own} for name, own in found.items()}))
        return
    print("| task | K | layers | attention | padded |\n|---|---|---|---|---|")
    for name, own in found.items():
        for k, numbers in own.items():
            print(f"| {name} | {k} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |")


if __name__ == "__main__":
    main()
