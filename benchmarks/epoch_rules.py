"""Which epoch of which trial should win? Rules for it, judged by test scores of recorded trials.

    python benchmarks/epoch_rules.py --record recorded/record.parquet --out epoch_rules.md

A search sees some of a task's recorded trials, drawn at random; each rule chooses an epoch of one of them by
validation alone. Rules are chosen on one half of the tasks and judged on the other (`search_quality.halves`).
"""

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

from record import OUT
from replays import TEST, read_record
from search_quality import halves
from tables import Report

from pipelines.results import EpochResult

SEEN = 12  # trials of a search
SEARCHES = 500

Trial = Sequence[EpochResult]
Rule = Callable[[Trial, int], tuple[float, ...]]  # how good an epoch is, by its index: the larger the better


def smoothed(trial: Trial, at: int) -> float:
    """The mean validation score of an epoch and its neighbours."""
    near = trial[max(0, at - 1) : at + 2]
    return mean(epoch.score for epoch in near)


def only_last(trial: Trial, at: int, *scores: float) -> tuple[float, ...]:
    return scores if at == len(trial) - 1 else (-float("inf"),)


def loss_of(trial: Trial, at: int) -> float:
    return trial[at].validation_loss or 0.0


# Of equal epochs the first counts, and of equal trials the one that was begun first.
RULES: dict[str, Rule] = {
    "best epoch (the rule)": lambda trial, at: (trial[at].score,),
    "best epoch; of equals the later": lambda trial, at: (trial[at].score, at / len(trial)),
    "best epoch; of equals the one of less loss": lambda trial, at: (trial[at].score, -loss_of(trial, at)),
    "last epoch": lambda trial, at: only_last(trial, at, trial[at].score),
    "last epoch, by its neighbours' mean": lambda trial, at: only_last(trial, at, smoothed(trial, at)),
    "best mean of an epoch and its neighbours": lambda trial, at: (smoothed(trial, at),),
    "least validation loss": lambda trial, at: (-loss_of(trial, at),),
}


def chosen_test(rule: Rule, trials: Sequence[Trial]) -> float:
    """The test score of what a rule chooses."""
    every = [(trial, at) for trial in trials for at in range(len(trial))]
    trial, at = max(every, key=lambda one: rule(*one))
    return trial[at].scores[TEST]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--record", type=Path, default=OUT)
    parser.add_argument("--out", type=Path, help="write the table there, as markdown")
    options = parser.parse_args()
    record = {name: next(iter(seeds.values())) for name, seeds in read_record(options.record).items()}
    report = Report("Which epoch counts")
    report.facts["Searches"] = f"{SEARCHES} of each task, {SEEN} trials of its record each"
    default = RULES["best epoch (the rule)"]
    for half, tasks in halves(list(record)).items():
        rows = []
        for name, rule in RULES.items():
            gains: list[float] = []  # of each task
            for task in tasks:
                trials = list(record[task].trials.values())
                draws = random.Random(0)  # noqa: S311
                differences = []
                for _ in range(SEARCHES):
                    seen = draws.sample(trials, SEEN)
                    differences.append(100 * (chosen_test(rule, seen) - chosen_test(default, seen)))
                gains.append(mean(differences))
                better = sum(gain > 0 for gain in gains)
            worse = sum(gain < 0 for gain in gains)
            rows.append([name, f"{mean(gains):+.2f}", f"{better} / {worse}", f"{min(gains):+.2f}"])
        report.add_table(
            [f"{half} {len(tasks)} tasks", "points on test", "tasks better / worse", "at worst"], rows
        )
    report.notes = ["Points on test: what is chosen, over what the rule that is chooses; a mean over tasks."]
    report.show(options.out)


if __name__ == "__main__":
    main()
