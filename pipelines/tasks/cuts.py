"""Which rows are cut from train, and which stay under a limit: seeded, by class or by whole groups."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The rows, sorted, of each split that is cut from train; none where there are too few.

    Attributes:
        how: how they were drawn, for the notes.
        too_few: why there are none.
    """

    rows: Mapping[str, Indices]
    how: str
    too_few: str


def cut_strata(strata: Sequence[Indices], counts: Mapping[str, int], seed: int, *, stratified: bool) -> Cut:
    """Cut so many rows for each split, each stratum giving its share of its size before any cut.

    Every stratum keeps a row to train on, and then one for validation. Where a stratum could give a row and
    has no share, the split has a row of as many strata as it has rows, the large ones first, and of two at
    least: of one class alone nothing can be told.
    """
    sizes = np.array([len(rows) for rows in strata])
    left = _shuffle(strata, seed)
    cut: dict[str, Indices] = {}
    for name, count in counts.items():
        kept = 2 if name == "test" and "validation" in counts else 1
        most = np.array([max(len(rows) - kept, 0) for rows in left])
        shares = _share(count, sizes, least=np.zeros_like(most), most=most)
        able = most > 0
        if np.any(able & (shares == 0)):
            count = max(count, min(2, int(able.sum())))
            least = np.zeros_like(most)
            least[np.argsort(np.where(able, -sizes, 1), kind="stable")[: min(count, int(able.sum()))]] = 1
            shares = _share(count, sizes, least=least, most=most)
        cut[name] = _first(left, shares)
        left = [rows[share:] for rows, share in zip(left, shares, strict=True)]
    too_few = f"train's {sizes.sum()} rows are too few to cut any from: each class keeps one"
    return Cut(rows=cut, how=describe(seed, stratified=stratified), too_few=too_few)


def cut_groups(groups: Sequence[Hashable], counts: Mapping[str, int], seed: int, *, what: str) -> Cut:
    """Cut whole groups until each split has as many rows as it should, or more; one group stays to train on.

    Args:
        groups: the group of each row; sortable.
        what: what a group is: "article".
    """
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    names = sorted(members)  # type: ignore[type-var]
    order = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    cut: dict[str, Indices] = {}
    for name, count in counts.items():
        rows: list[int] = []
        while len(rows) < count and order:
            rows += members[order.pop()]
        cut[name] = np.array(sorted(rows) if order else [], dtype=np.int64)
    too_few = f"train's {len(names)} {what}s are too few to cut any from"
    return Cut(rows=cut, how=f"seed {seed}, by {what}", too_few=too_few)


def sample_strata(strata: Sequence[Indices], count: int, seed: int) -> tuple[Indices, int]:
    """A sample of so many rows, sorted, and how many strata have no row in it.

    Every stratum keeps a row if there is room, the large ones first.
    """
    shuffled = _shuffle(strata, seed)
    sizes = np.array([len(rows) for rows in shuffled])
    least = np.zeros_like(sizes)
    least[np.argsort(-sizes, kind="stable")[:count]] = 1
    shares = _share(count, sizes, least=least, most=sizes)
    return _first(shuffled, shares), int(np.sum(shares == 0))


def spread_rows(strata: Sequence[Indices], count: int, seed: int) -> Indices:
    """The fold of each row: of each stratum, and of all rows, as many in each as can be."""
    order = np.concatenate(_shuffle(strata, seed))
    folds = np.empty(len(order), dtype=np.int64)
    folds[order] = np.arange(len(order)) % count
    return folds


def spread_groups(strata: Sequence[Indices], groups: Sequence[str], count: int, seed: int) -> Indices:
    """The fold of each row, whole groups in each: the large ones first, each where its classes are fewest.

    No fold is empty where there are as many groups.
    """
    names, members = np.unique(np.array(groups, dtype=object), return_inverse=True)
    shares = np.zeros((len(names), len(strata)))  # of each class, in each group
    for number, rows in enumerate(strata):
        shares[:, number] = np.bincount(members[rows], minlength=len(names)) / len(rows)
    sizes = np.bincount(members)
    order = np.random.default_rng(seed).permutation(len(names))
    loads, rows_of = np.zeros((count, len(strata))), np.zeros(count)
    fold_of = np.empty(len(names), dtype=np.int64)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold = min(range(count), key=lambda one: (loads[one] @ shares[group], rows_of[one], one))
        fold_of[group] = fold
        loads[fold] += shares[group]
        rows_of[fold] += sizes[group]
    return np.asarray(fold_of[members])


def repeated_rows(rows: Mapping[str, Sequence[Hashable]]) -> list[str]:
    """Notes on training rows that another split has as well, word for word: its scores flatter."""
    notes = []
    for name, others in rows.items():
        again = () if others is rows["train"] else set(others)
        if count := sum(row in again for row in rows["train"]):
            notes.append(f"train: {count} of {len(rows['train'])} rows are in {name} again, word for word")
    return notes


def describe(seed: int, *, stratified: bool) -> str:
    """How rows were drawn, for the notes."""
    return f"seed {seed}, stratified" if stratified else f"seed {seed}"


def _shuffle(strata: Sequence[Indices], seed: int) -> list[Indices]:
    generator = np.random.default_rng(seed)
    return [generator.permutation(rows) for rows in strata]


def _first(strata: Sequence[Indices], counts: Indices) -> Indices:
    first = [rows[:count] for rows, count in zip(strata, counts, strict=True)]
    return np.asarray(np.sort(np.concatenate(first)), dtype=np.int64)


def _share(count: int, sizes: Indices, *, least: Indices, most: Indices) -> Indices:
    """Share ``count`` out in proportion to ``sizes`` by the largest remainders, within the bounds."""
    exact = count * sizes / sizes.sum()
    shares: Indices = np.clip(np.floor(exact).astype(np.int64), least, most)
    while shares.sum() != count:
        step = 1 if shares.sum() < count else -1
        is_open = shares < most if step == 1 else shares > least
        if not is_open.any():
            break
        shares[np.argmax(np.where(is_open, step * (exact - shares), -np.inf))] += step
    return shares
