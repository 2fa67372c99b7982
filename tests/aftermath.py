"""What has to be true of a job after a fault, and once it was resumed: everything, counted."""

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from processes import wait_until_gone

from pipelines.bundle_files import read_files
from search.decisions.confirmation import pick_winner
from search.decisions.selection import pick_best
from search.record import Trial
from search.storage import Storage
from search.study import Record, Study

LOCK_SECONDS = 30  # for a lock that is held for a moment only
Configuration = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Counts:
    """What was found of one study: to be reported, and compared with what was asked for."""

    states: Mapping[str, int]
    epochs: int
    runs: int  # in MLflow


@dataclass(frozen=True)
class Reference:
    """An undisturbed run of the same grid in fp32 with the same seed: what every epoch has to give.

    Attributes:
        scores: of each configuration, by epoch.
        winner: the configuration that was selected.
    """

    scores: Mapping[Configuration, Sequence[float]]
    winner: Configuration

    @classmethod
    def of(cls, storage: Path, job: str) -> "Reference":
        with Record(Storage(str(storage))) as record:
            study = record.studies(job)[0]
            trials = study.trials()
            return cls(
                {configuration(trial): [epoch.score for epoch in trial.epochs] for trial in trials},
                configuration(trials[study.winner.trial]),
            )


def configuration(trial: Trial) -> Configuration:
    return tuple(sorted(trial.params.items()))


def check_finished(
    storage: Path,
    job: str,
    *,
    trials: int,
    reference: Reference | None = None,
    failed: int = 0,
    mark: str | None = None,
    database: str | None = None,
    tracking: Path | None = None,
) -> Counts:
    """Every invariant of a finished job of one study; returns the counts.

    Args:
        trials: how many were asked for.
        reference: what an undisturbed run of the same job found.
        failed: how many of the trials were made to fail.
        mark: of all processes that worked on it; they are waited for.
        tracking: MLflow's database, if it is not the storage's own.
    """
    place = Storage(str(storage), database)
    with Record(place) as record:
        (study,) = record.studies(job)
        found = study.trials()
        states = check_trials(study, trials=trials, failed=failed)
        check_winner(study, place)
    if reference is not None:
        check_scores(found, reference)
    runs = check_mlflow(tracking or storage / "mlflow.db", study.name, found)
    check_traces(storage, job)
    if mark is not None:
        wait_until_gone(mark)
    return Counts(states, sum(len(trial.epochs) for trial in found), runs)


def check_trials(study: Study, *, trials: int, failed: int = 0) -> dict[str, int]:
    """As many trials as were asked for, all ended, each configuration and each epoch once."""
    found = study.trials()
    states = Counter(trial.state for trial in found)
    searched = [trial for trial in found if trial.confirms is None]
    assert len(searched) == trials, states
    assert states["running"] == states["paused"] == 0, states
    assert states["failed"] == failed, [trial.reason for trial in found if trial.state == "failed"]
    assert [trial.number for trial in found] == list(range(len(found)))
    assert max(Counter(map(configuration, searched)).values()) == 1, "a configuration was tried twice"
    for trial in found:
        assert [epoch.epoch for epoch in trial.epochs] == list(range(1, len(trial.epochs) + 1)), trial
        if trial.state == "complete":
            assert len(trial.epochs) == trial.schedule
        else:
            assert trial.reason, trial
    assert study.driver is None
    return dict(states)


def check_winner(study: Study, place: Storage) -> None:
    """It is the one that the record's scores name, and its bundle is whole and its own."""
    best = pick_winner(study.trials(), study.leaders)
    winner = study.winner
    assert best is not None
    assert winner is not None
    assert (winner.trial, winner.validation) == (best.number, best.score)
    folder = Path(place.uri(winner.bundle).removeprefix("file://"))
    config, _, metrics = read_files(folder)
    trained = config.train.to_dict()
    assert {name: trained[name] for name in best.params} == dict(best.params)
    assert (metrics["trial"], metrics["epoch"]) == (best.number, best.best_epoch)


def check_scores(trials: Sequence[Trial], reference: Reference) -> None:
    """Each epoch gave what it gives in an undisturbed run, wherever it was interrupted and taken up again."""
    for trial in trials:
        expected = reference.scores[configuration(trial)]
        assert [epoch.score for epoch in trial.epochs] == list(expected[: len(trial.epochs)]), trial.number
    if all(trial.state == "complete" for trial in trials) and len(trials) == len(reference.scores):
        best = pick_best(trials)
        assert best is not None
        tied = max(reference.scores[reference.winner])
        assert best.score == tied
        assert configuration(best) == reference.winner


def check_mlflow(database: Path, study: str, trials: Sequence[Trial]) -> int:
    """One run per trial with each of its epochs once, all ended as the record says; returns their number."""
    with closing(sqlite3.connect(database)) as connection:
        runs = connection.execute(
            "SELECT r.run_uuid, r.status, t.value FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid"
            " WHERE t.key = 'adaptune.trial' AND r.lifecycle_stage = 'active'"
        ).fetchall()
        runs = [run for run in runs if run[2].rpartition("/")[0] == study]
        assert sorted(run[2] for run in runs) == sorted(f"{study}/{trial.number}" for trial in trials)
        for run, status, key in runs:
            trial = trials[int(key.rpartition("/")[2])]
            assert status == ("FAILED" if trial.state == "failed" else "FINISHED"), (key, status)
            steps = connection.execute(
                "SELECT step FROM metrics WHERE run_uuid = ? AND key = 'train_loss' ORDER BY step", (run,)
            ).fetchall()
            assert [step for (step,) in steps] == [epoch.epoch for epoch in trial.epochs], key
        left = connection.execute(
            "SELECT r.name FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid WHERE t.key = 'adaptune.study'"
            " AND t.value = ? AND r.status IN ('RUNNING', 'SCHEDULED')",
            (study,),
        ).fetchall()
        assert left == [], "runs that MLflow shows as running"
    return len(runs)


def check_traces(storage: Path, job: str) -> None:
    """No lock is held, nothing half written lies about, and Tune's scratch is gone."""
    with FileLock(storage / ".lock", timeout=LOCK_SECONDS):
        pass
    left = [
        path for path in storage.rglob(".*") if path.name.startswith((".writing-", ".staged-", ".probe-"))
    ]
    assert left == []
    assert not (storage / job / "tune").exists()


def check_interrupted(storage: Path, job: str, *, at_most: int, database: str | None = None) -> int:
    """Every invariant of a job that was interrupted and is to be resumed; returns how many trials it has."""
    with Record(Storage(str(storage), database)) as record:
        studies = record.studies(job)
        if not studies:
            return 0
        (study,) = studies
        trials = study.trials()
    assert len(trials) <= at_most
    assert [trial.number for trial in trials] == list(range(len(trials)))
    for trial in trials:
        assert trial.state != "failed", trial.reason
        assert [epoch.epoch for epoch in trial.epochs] == list(range(1, len(trial.epochs) + 1))
    return len(trials)
