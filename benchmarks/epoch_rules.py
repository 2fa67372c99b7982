"""Which epoch of which trial should win? Rules for it, judged by test scores of recorded trials.

    python benchmarks/epoch_rules.py --record recorded/record.parquet --out epoch_rules.md

A search sees some of a task's recorded trials, drawn at random; each rule chooses an epoch of one of them by
validation alone. Rules are chosen on one half of the tasks and judged on the other (`search_quality.halves`).
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
from record import OUT
from replays import TEST, read_record
from search_quality import halves
from tables import Report

from pipelines.results import EpochResult

SEEN = 12  # trials of a search
SEARCHES = 500


@dataclass(frozen=True)
class Trial:
    """Attributes:
    size: of the adapters.
    """

    epochs: Sequence[EpochResult]
    size: int

    def smoothed(self, at: int) -> float:
        """The mean validation score of an epoch and its neighbours."""
        return mean(epoch.score for epoch in self.epochs[max(0, at - 1) : at + 2])

    def loss(self, at: int) -> float:
        return self.epochs[at].validation_loss or 0.0

    def is_last(self, at: int) -> bool:
        return at == len(self.epochs) - 1


# How good an epoch is, by its index: the larger the better. Of equal ones the first counts.
Rule = Callable[[Trial, int], tuple[float, ...]]
NOW = "best epoch; of equals the smaller adapter's, the first (as it is)"
RULES: dict[str, Rule] = {
    NOW: lambda trial, at: (trial.epochs[at].score, -trial.size),
    "… of equals the later": lambda trial, at: (trial.epochs[at].score, -trial.size, at),
    "… of equals the one of less validation loss": lambda trial, at: (
        trial.epochs[at].score,
        -trial.loss(at),
    ),
    "… in a trial less loss, between trials the smaller": lambda trial, at: (
        trial.epochs[at].score,
        -trial.size,
        -trial.loss(at),
    ),
    "last epoch": lambda trial, at: (trial.is_last(at), trial.epochs[at].score, -trial.size),
    "last epoch, by the mean of the last two": lambda trial, at: (
        trial.is_last(at),
        trial.smoothed(at),
        -trial.size,
    ),
    "best mean of an epoch and its neighbours": lambda trial, at: (trial.smoothed(at), -trial.size),
    "least validation loss": lambda trial, at: (-trial.loss(at),),
}


def chosen_test(rule: Rule, trials: Sequence[Trial]) -> float:
    """The test score of what a rule chooses."""
    every = [(trial, at) for trial in trials for at in range(len(trial.epochs))]
    trial, at = max(every, key=lambda one: rule(*one))
    return trial.epochs[at].scores[TEST]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--record", type=Path, default=OUT)
    parser.add_argument("--out", type=Path, help="write the table there, as markdown")
    options = parser.parse_args()
    record = {name: next(iter(seeds.values())) for name, seeds in read_record(options.record).items()}
    report = Report("Which epoch counts")
    report.facts["Searches"] = f"{SEARCHES} of each task, {SEEN} trials of its record each"
    default = RULES[NOW]
    for half, tasks in halves(list(record)).items():
        rows = []
        for name, rule in RULES.items():
            gains: list[float] = []  # of each task
            for task in tasks:
                sizes = record[task].parameters.index("adapter_size")
                trials = [Trial(epochs, key[sizes]) for key, epochs in record[task].trials.items()]
                draws = np.random.default_rng(0)
                differences = []
                for _ in range(SEARCHES):
                    seen = [trials[number] for number in draws.permutation(len(trials))[:SEEN]]
                    differences.append(100 * (chosen_test(rule, seen) - chosen_test(default, seen)))
                gains.append(mean(differences))
                better = sum(gain > 0 for gain in gains)
            worse = sum(gain < 0 for gain in gains)
            rows.append([name, f"{mean(gains):+.2f}", f"{better} / {worse}", f"{min(gains):+.2f}"])
        report.add_table(
            [f"{half} {len(tasks)} tasks", "points on test", "tasks better / worse", "at worst"], rows
        )
    report.notes = ["Points on test: what is chosen, over what the rule as it is chooses; a mean over tasks."]
    report.show(options.out)


if __name__ == "__main__":
    main()
