"""Studies filled by hand: the record of a search without Ray, a backbone or training."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.storages._rdb import storage as optuna_storage
from sqlalchemy import Engine, event

from pipelines.results import EpochResult
from search.decisions.halving import rungs
from search.record import Outcome, State, StudyFacts, Trial, Winner, waiting_rung
from search.storage import Storage, bundle_key
from search.study import Record, Study
from spaces import Space

SPACE = Space.parse({"adapter_size": [8, 64, 256], "learning_rate": [1e-4, 1e-3], "epochs": [2, 3]})
BACKBONE_PARAMETERS = 1000
FACTS = StudyFacts(metric="accuracy", backbone_parameters=BACKBONE_PARAMETERS, job={})


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection: Any, _: object) -> None:
    """Tests have no power cuts: without this, most of their time goes into waiting for the disk."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


# Optuna reads its migration scripts whenever it opens a database; they do not change while tests run.
_read_head_version = optuna_storage._VersionManager.get_head_version
_head_versions: list[str] = []


def _head_version(versions: Any) -> str:
    if not _head_versions:
        _head_versions.append(_read_head_version(versions))
    return _head_versions[0]


optuna_storage._VersionManager.get_head_version = _head_version


def epoch(number: int, score: float, loss: float | None = None) -> EpochResult:
    """What a worker reports of one epoch.

    Args:
        loss: on the validation set; None: not recorded.
    """
    return EpochResult(
        epoch=number,
        train_loss=1 / number,
        scores={"accuracy": score, "f1": score / 2},
        score=score,
        seconds=0.5,
        finished_at=1_700_000_000.25 + number,
        validation_loss=loss,
    )


def epochs(scores: Sequence[float], losses: Sequence[float | None] | None = None) -> list[EpochResult]:
    pairs = zip(scores, losses or [None] * len(scores), strict=True)
    return [epoch(number, score, loss) for number, (score, loss) in enumerate(pairs, start=1)]


@cache
def _empty_database() -> bytes:
    """A database with Optuna's tables and no study: making them takes longer than most tests."""
    with TemporaryDirectory() as folder:
        Record(Storage(folder)).close()
        return Path(folder, "studies.db").read_bytes()


@contextmanager
def opened(folder: Path) -> Iterator[Record]:
    """The record of a storage in this folder, made if it is not there."""
    if not (folder / "studies.db").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "studies.db").write_bytes(_empty_database())
    with Record(Storage(str(folder))) as record:
        yield record


def filled(folder: Path, fill: Callable[[Record], None]) -> Path:
    """A folder with the record that this function, a module's own, fills: filled once, then copied."""
    folder.mkdir(parents=True)
    (folder / "studies.db").write_bytes(_filled_database(fill))
    return folder


@cache
def _filled_database(fill: Callable[[Record], None]) -> bytes:
    with TemporaryDirectory() as folder:
        with opened(Path(folder)) as record:
            fill(record)
        return Path(folder, "studies.db").read_bytes()


def create(record: Record, name: str = "job/task/adapter", **facts: Any) -> Study:
    return record.create_study(name, replace(FACTS, **facts))


def start(
    study: Study,
    params: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    values: Mapping[str, Sequence[Any]] | None = None,
) -> int:
    """Start the next trial; without params, with a configuration of the space that is not known yet.

    Args:
        values: the space that params are of, where it is not SPACE.
    """
    number = len(study.trials())
    given = params or list(SPACE.points())[number % len(list(SPACE.points()))]
    distributions = SPACE.distributions()
    if values is not None:
        distributions = {name: CategoricalDistribution(list(values[name])) for name in given}
    return study.start_trial(given, distributions, seed=seed)


def add(
    study: Study,
    scores: Sequence[float],
    state: Outcome = "complete",
    *,
    reason: str | None = None,
    trained: int = 100,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    values: Mapping[str, Sequence[Any]] | None = None,
) -> int:
    """A whole trial: its epochs' scores, and how it ended."""
    number = start(study, params, seed=seed, values=values)
    study.note_trial(number, node="here", trained_parameters=trained)
    study.record_epochs(number, epochs(scores))
    if state != "running":
        study.finish_trial(number, state, reason=reason)
    return number


def note_winner(study: Study, number: int, **more: Any) -> None:
    """End a study with a winner, as the driver notes it; its bundle is the caller's business."""
    given = {
        "metric": study.facts.metric,
        "validation": study.trials()[number].score,
        "test": {"accuracy": 0.5, "f1": 0.25},
        "bundle": bundle_key(study.job, study.task, study.method),
        **more,
    }
    study.finish(Winner(trial=number, **given))


def trial_record(
    number: int,
    scores: Sequence[float],
    schedule: int,
    *,
    factor: int = 3,
    promoted: int = 0,
    state: State | None = None,
    confirms: int | None = None,
    losses: Sequence[float | None] | None = None,
) -> Trial:
    """A trial of a search with halving, as the record would hold it; its state follows from its scores."""
    waits_at = rungs(schedule, factor)
    if state is None:
        waits = waiting_rung(waits_at, promoted, len(scores)) is not None
        state = "complete" if len(scores) == schedule else "paused" if waits else "running"
    return Trial(
        number=number,
        state=state,
        params={"epochs": schedule},
        epochs=tuple(epochs(scores, losses)),
        rungs=waits_at,
        promoted=promoted,
        confirms=confirms,
    )
