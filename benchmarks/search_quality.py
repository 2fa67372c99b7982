"""What does a search find for the epochs that it spends? Replays of a recorded grid of real trials.

    python benchmarks/search_quality.py --seeds 50 --out search_quality.md

record.py made the record that is read by default. Each replay is a search by adaptune itself, its study in
memory; only the training is looked up.
"""

import argparse
import functools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, Literal

import optuna
from record import OUT
from replays import DEFAULT, Recorded, read_record, replay
from tables import Report

from pipelines.config import TrainConfig
from search.decisions.experience import portfolio
from search.decisions.portfolio import suggest
from search.experience import shipped
from spaces import Space

WITHIN = 0.005
SHARES = (0.05, 0.10, 0.12, 0.20, 0.25, 0.40, 1.0)  # of the grid's epochs


@dataclass(frozen=True)
class Side:
    """A way to search."""

    name: str
    sampler: str
    scheduler: str
    first: Literal["nothing", "experience", "portfolio"] = "nothing"  # what it begins with


RANDOM = Side("random", "random", "none")
ALONE = Side("TPE + halving: the default", DEFAULT.sampler, DEFAULT.scheduler)
EXPERIENCED = Side("the default, with experience", DEFAULT.sampler, DEFAULT.scheduler, "experience")
SHIPPED = Side("the default, with the portfolio", DEFAULT.sampler, DEFAULT.scheduler, "portfolio")
SIDES = (Side("grid", "grid", "none"), RANDOM, Side("TPE", "tpe", "none"), ALONE, SHIPPED, EXPERIENCED)
# Of the grid's epochs, to within 0.5 points, in the median.
AIMS = {ALONE: 0.20, SHIPPED: 0.10, EXPERIENCED: 0.06}


@dataclass(frozen=True)
class Replay:
    """What came of one search.

    Attributes:
        near: the share of the grid's epochs to within 0.5 points of its best; infinite: never.
        spent: the share that it had spent when it ended.
        regrets: normalised, at `SHARES`.
        behind: points that the test score of the best epoch by validation lacks to that of the grid's best by
            validation, at `SHARES`; nan: no test scores are recorded.
    """

    near: float
    spent: float
    regrets: tuple[float, ...]
    behind: tuple[float, ...]


Found = Mapping[tuple[Side, str], Sequence[Replay]]  # by side and task


def suggestions(side: Side, name: str, others: Sequence[Recorded], space: Space) -> list[Mapping[str, Any]]:
    """A side's first suggestions for a task: of the whole grids of other tasks, or of what ships, as it would
    be without this task.
    """
    if side.first == "experience":
        return list(portfolio([other.as_trials() for other in others], space))
    if side.first == "nothing":
        return []
    own = next((task for task in shipped().tasks if task.name == name), None)
    if own is None:
        raise SystemExit(f"search/portfolio.json does not know the task {name}; make it with portfolio.py")
    rest = [task for task in shipped().tasks if task.name != name]
    return list(suggest(rest, own.facts, space, default=TrainConfig().to_dict(), layers=own.layers))


def _replay(record: Mapping[str, Mapping[int, Recorded]], asked: tuple[Side, str, int]) -> Replay:
    """One search: of a side, on a task, with a seed."""
    side, name, seed = asked
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    grids = record[name]
    task = grids[sorted(grids)[seed % len(grids)]]
    others = [next(iter(seeds.values())) for other, seeds in record.items() if other != name]
    first = suggestions(side, name, others, task.space())
    curve = replay(task, sampler=side.sampler, scheduler=side.scheduler, seed=seed, first=first)
    near = next((count for count, one in enumerate(curve, 1) if one.score >= task.best - WITHIN), math.inf)
    spread = (task.best - task.worst) or 1.0
    chosen = math.nan if task.chosen_test is None else task.chosen_test
    at_shares = [curve[min(len(curve), max(1, round(share * task.cost))) - 1] for share in SHARES]
    return Replay(
        near=near / task.cost,
        spent=len(curve) / task.cost,
        regrets=tuple((task.best - one.score) / spread for one in at_shares),
        behind=tuple(100 * (chosen - one.test) for one in at_shares),
    )


def halves(tasks: Sequence[str]) -> dict[str, list[str]]:
    """The half of the tasks on which rules may be chosen, and the one that judges them: every second one by
    name, fixed before any figure was looked at.
    """
    ordered = sorted(tasks)
    return {"rules may be chosen on": ordered[::2], "judged by": ordered[1::2]}


def regrets_at(replays: Sequence[Replay], share: float) -> list[float]:
    return [one.regrets[SHARES.index(share)] for one in replays]


def late(found: Found, side: Side, tasks: Sequence[str]) -> str:
    """The tasks on which a side misses its aim; empty where it is met."""
    medians = {task: median(one.near for one in found[side, task]) for task in tasks}
    return ", ".join(f"{task} {_percent(near)}" for task, near in medians.items() if near > AIMS[side])


def worse_than_random(found: Found, side: Side, tasks: Sequence[str]) -> str:
    """Where a side's mean regret is above that of `RANDOM`; empty: nowhere.

    Only at costs that the side's median search has: one that has ended cannot be compared at more.
    """
    worse = []
    for task in tasks:
        reached = median(one.spent for one in found[side, task])
        for share in (share for share in SHARES if share <= reached):
            ours, theirs = (regrets_at(found[one, task], share) for one in (side, RANDOM))
            difference = mean(ours) - mean(theirs)
            if difference > 0:
                noise = math.hypot(*(stdev(them) / math.sqrt(len(them)) for them in (ours, theirs)))
                sure = " (*)" if difference > 2 * noise else ""
                worse.append(f"{task} at {share:.0%}: {mean(ours):.3f} against {mean(theirs):.3f}{sure}")
    return "; ".join(worse)


def describe_aims(found: Found, tasks: Sequence[str]) -> list[list[str]]:
    """A row for each aim: what, for whom, whether it is met, where it is not."""
    rows = []
    for side, share in AIMS.items():
        wanted = f"within 0.5 points after {share:.0%} of the grid's epochs in the median, on every task"
        rows.append([side.name, wanted, late(found, side, tasks)])
        rows.append(
            [side.name, "never worse than random at the same cost", worse_than_random(found, side, tasks)]
        )
    return [[side, wanted, "missed" if where else "met", where or "-"] for side, wanted, where in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--record", type=Path, default=OUT)
    parser.add_argument("--seeds", type=int, default=50, help="searches of each side on each task, 2 or more")
    parser.add_argument("--processes", type=int, help="left out: one for each core")
    parser.add_argument("--out", type=Path, help="write the tables there, as markdown")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds {options.seeds}: one search has no spread; write 2 or more")
    record = read_record(options.record)
    asked = [(side, task, seed) for task in record for side in SIDES for seed in range(options.seeds)]
    found: dict[tuple[Side, str], list[Replay]] = defaultdict(list)
    with Pool(options.processes) as pool:
        replays = pool.map(functools.partial(_replay, record), asked, chunksize=10)
    for (side, task, _), one in zip(asked, replays, strict=True):
        found[side, task].append(one)
    tasks = list(record)
    report = Report("Search quality: replays of a recorded grid")
    first = next(iter(record.values()))
    report.facts["Record"] = (
        f"{len(record)} tasks, {len(next(iter(first.values())).trials)} configurations, "
        f"{next(iter(first.values())).cost} epochs a grid, {len(first)} training seed(s); "
        f"{options.seeds} searches of each side on each task"
    )
    tested = all(grid.chosen_test is not None for grids in record.values() for grid in grids.values())
    for name, own in (halves(tasks) if tested and len(tasks) > 1 else {"all": tasks}).items():
        add_tables(report, found, own, f"{name} {len(own)} tasks", tested=tested)
    report.notes = [
        "Normalised regret: what the best epoch so far lacks to the grid's best: 0 is the grid's best, 1 the "
        "best epoch of the grid's worst configuration (before a first epoch as good, it may be above 1); a "
        "mean over tasks and searches. A search that has ended keeps its last.",
        "Behind on test: points that the test score of the best epoch by validation lacks to that of the "
        "grid's best epoch by validation; below 0 it is ahead. No search reads a test score.",
        "In brackets: searches that never came within 0.5 points. A median counts them as the longest.",
        "With experience: the first suggestions come from the whole grids of the other tasks, not from "
        "searches of them.",
        "With the portfolio: the first suggestions are of what ships (search/portfolio.json), chosen as if "
        "the task itself were not in it.",
        "Worse than random: means over searches, at the costs above that the side's median search spends; "
        "(*) where the difference is more than two standard errors.",
    ]
    report.show(options.out)


def add_tables(report: Report, found: Found, tasks: Sequence[str], name: str, *, tested: bool) -> None:
    regrets, behind, spent = [], [], []
    for side in SIDES:
        every = [one for task in tasks for one in found[side, task]]
        regrets.append([side.name, *(f"{mean(regrets_at(every, share)):.3f}" for share in SHARES)])
        points = [mean(one.behind[at] for one in every) for at in range(len(SHARES))]
        behind.append([side.name, *(f"{one:+.2f}" for one in points)])
        spent.append(f"{median(one.spent for one in every):.0%}")
    if tested:
        report.add_table(
            [f"{name}: mean points behind on test at this share", *map(_percent, SHARES)], behind
        )
    report.add_table(
        [
            f"{name}: mean normalised regret at this share of the grid's epochs",
            *map(_percent, SHARES),
            "ended at",
        ],
        [[*row, end] for row, end in zip(regrets, spent, strict=True)],
    )
    report.add_table(
        ["median share of the grid's epochs to within 0.5 points of its best", *tasks],
        [[side.name, *(_share([one.near for one in found[side, task]]) for task in tasks)] for side in SIDES],
    )
    report.add_table(["side", "aim", "", "where not"], describe_aims(found, tasks))


def _share(shares: Sequence[float]) -> str:
    never = shares.count(math.inf)
    return f"{_percent(median(shares))} ({never})" if never else _percent(median(shares))


def _percent(share: float) -> str:
    return "never" if math.isinf(share) else f"{share:.0%}"


if __name__ == "__main__":
    main()
