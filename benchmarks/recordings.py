"""How many passes does a search record as CUDA graphs, and how many does it start from a recording?

    python benchmarks/recordings.py

Counts sizes of batches, on any machine: nothing is trained. Trials of 3 or 10 epochs take the places of a
pack in turn, with batches of 32 of made-up tasks of 600 texts: three tasks of short, middling and long texts
in one pack, or windows of a span task. Recordings stay as long as the pack's model does (`packs/places.py`).
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
from pipelines.packs.places import FEW, IDLE
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
    """What is recorded of a pack as long as its places suffice and most of them are taken."""

    places: list[Trial | None]
    seen: set[Hashable] = field(default_factory=set)
    recorded: dict[Hashable, None] = field(default_factory=dict)
    made: int = 0

    def suits(self, members: int) -> bool:
        return members <= len(self.places) and (members * FEW > len(self.places) or len(self.places) == 1)

    def sit(self, members: Sequence[Trial]) -> None:
        """Those who left are gone, and those who came have places."""
        stay = [one if any(one is other for other in members) else None for one in self.places]
        come = [one for one in members if not any(one is other for other in stay)]
        self.places = [one if one is not None else (come.pop(0) if come else None) for one in stay]


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
        members = [*stay, *come]
        if not members:
            break
        if not stay or not models[-1].suits(len(members)):  # nobody is left who had the last one
            models.append(Model([None] * (1 << (len(members) - 1).bit_length())))
        model = models[-1]
        model.sit(members)
        parts = [
            Part(place, IDLE, np.zeros(1, dtype=np.int64), spans=spans)
            if one is None
            else Part(place, one.tokens, one.batches.pop(0), spans=spans)
            for place, one in enumerate(model.places)
        ]
        cargo = flat_cargo(parts, pad_id=0, fused=True, room=BATCH, keys=[0] * len(parts), most=128)
        passes += 1
        replayed += cargo.shape in model.recorded
        if cargo.shape in model.seen and cargo.shape not in model.recorded:
            if len(model.recorded) == MOST_RECORDINGS:
                del model.recorded[next(iter(model.recorded))]
            model.recorded[cargo.shape] = None
            model.made += 1
        model.seen.add(cargo.shape)
        own = [part for part, one in zip(parts, model.places, strict=True) if one is not None]
        needed += sum(-(-int(part.tokens.lengths[part.indices].sum()) // TILE) for part in own)
        computed += len(cargo.arrays["tiles"])
    return {
        "passes": passes,
        "models": len(models),
        "recorded": sum(model.made for model in models),
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
    print("| tasks | places | passes | models | recorded | at once at most | replayed | tiles over needed |")
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
