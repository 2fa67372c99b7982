"""How many passes does a search record as CUDA graphs, and how many does it start from a recording?

    python benchmarks/recordings.py

Counts sizes of batches, on any machine: nothing is trained. Trials of 3 or 10 epochs take the places of a
pack in turn, with batches of 32 of made-up tasks of 600 texts: three tasks of short, middling and long texts
in one pack, or windows of a span task. A pack that a trial joins or leaves begins anew (`packs/recorded.py`).
"""

import argparse
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout where nothing is installed

import numpy as np
from numpy.typing import NDArray

from pipelines.encoder.batches import training_batches
from pipelines.encoder.tokens import Tokens
from pipelines.packs.batches import Part, flat_cargo
from pipelines.packs.layout import TILE
from pipelines.packs.recorded import MOST_RECORDINGS

ROWS, BATCH, MAX_TOKENS = 600, 32, 128
TYPICAL = (11, 20, 67)  # tokens of a text, by task
EPOCHS = (3, 10)


@dataclass
class Trial:
    """One at its place: the batches that it has yet."""

    tokens: Tokens
    batches: list[NDArray[np.int64]]


@dataclass
class Model:
    """What is recorded of a pack as long as its members stay."""

    seen: set[Hashable] = field(default_factory=set)
    recorded: set[Hashable] = field(default_factory=set)


def made_up(typical: int, seed: int) -> Tokens:
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(typical), 0.6, ROWS), 4, MAX_TOKENS).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Tokens(np.ones(offsets[-1], dtype=np.int32), offsets, None)


def count(tasks: Sequence[Tokens], places: int, trials: int, *, spans: bool) -> dict[str, float]:
    draw = np.random.default_rng(0)
    waiting = []
    for seed in range(trials):
        tokens = tasks[draw.integers(len(tasks))]
        epochs = range(1, EPOCHS[draw.integers(len(EPOCHS))] + 1)
        batches = [training_batches(tokens.lengths, BATCH, seed=seed, epoch=epoch) for epoch in epochs]
        waiting.append(Trial(tokens, [batch for epoch in batches for batch in epoch]))
    members: list[Trial] = []
    models: list[Model] = []
    passes = replayed = needed = computed = 0
    while waiting or members:
        stay = [one for one in members if one.batches]
        come = [waiting.pop() for _ in range(min(places - len(stay), len(waiting)))]
        if come or len(stay) < len(members):
            members = [*stay, *come]
            models.append(Model())
        if not members:
            break
        parts = [
            Part(place, one.tokens, one.batches.pop(0), spans=spans) for place, one in enumerate(members)
        ]
        cargo = flat_cargo(parts, pad_id=0, fused=True, room=BATCH, keys=[0] * len(members), most=128)
        model = models[-1]
        passes += 1
        replayed += cargo.shape in model.recorded
        if cargo.shape in model.seen and len(model.recorded) < MOST_RECORDINGS:
            model.recorded.add(cargo.shape)
        model.seen.add(cargo.shape)
        needed += sum(-(-int(part.tokens.lengths[part.indices].sum()) // TILE) for part in parts)
        computed += len(cargo.arrays["tiles"])
    return {
        "passes": passes,
        "models": sum(bool(model.seen) for model in models),
        "recorded": sum(len(model.recorded) for model in models),
        "at once": max(len(model.recorded) for model in models),
        "replayed": replayed / passes,
        "tiles": computed / needed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--places", type=int, nargs="+", default=[1, 8, 32])
    options = parser.parse_args()
    tasks = [made_up(typical, seed) for seed, typical in enumerate(TYPICAL)]
    print("| tasks | places | passes | packs | recorded | at once at most | replayed | tiles over needed |")
    print("|---|---|---|---|---|---|---|---|")
    for name, own, spans in (("texts", tasks, False), ("windows", tasks[-1:], True)):
        for places in options.places:
            found = count(own, places, options.trials, spans=spans)
            print(
                f"| {name} | {places} | {found['passes']:,} | {found['models']} | {found['recorded']} "
                f"| {found['at once']} | {found['replayed']:.0%} | {found['tiles']:.2f} |"
            )


if __name__ == "__main__":
    main()
