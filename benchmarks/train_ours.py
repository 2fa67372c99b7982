"""One trial through `pipelines`, for throughput.py: settings as JSON in, one JSON line per epoch out.

It says `ready` when all is loaded and begins at a line on its standard input.
"""

import json
import resource
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from material import rows_task

from pipelines import TrainConfig, Training, encode_task, load_backbone, read_task
from pipelines.encoder.batches import training_batches
from pipelines.encoder.prefix import PrefixCache
from pipelines.packs.training import resolve_precision
from pipelines.tasks.encoded import EncodedTask


def main(settings: dict[str, Any]) -> None:
    torch.set_num_threads(settings["threads"])
    backbone = load_backbone(settings["backbone"])
    task = encode_task(read_task(rows_task(Path(settings["rows"]))), backbone, settings["max_tokens"])
    known = {field.name for field in fields(TrainConfig)}
    config = TrainConfig(**{key: value for key, value in settings.items() if key in known})
    cache = PrefixCache(Path(settings["cache"]), gigabytes=4) if "cache" in settings else None
    training = Training(backbone, task, config, precision=settings["precision"], cache=cache)
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.perf_counter()
    _ = training.model  # built here, after what the cache lacks is computed
    built = time.perf_counter() - started
    for result in training.run():
        line = {
            "seconds": result.seconds,
            "built": built,
            "accuracy": result.scores["accuracy"],
            "padded_tokens": padded_tokens(task, config, result.epoch),
            "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "precision": resolve_precision(settings["precision"], torch.device("cpu")),
        }
        print(json.dumps(line), flush=True)


def padded_tokens(task: EncodedTask, config: TrainConfig, epoch: int) -> int:
    """Tokens that an epoch computes, padding included."""
    lengths = task.train.lengths
    batches = training_batches(lengths, config.batch_size, seed=config.seed, epoch=epoch)
    return int(sum(len(batch) * lengths[batch].max() for batch in batches))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
