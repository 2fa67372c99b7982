"""What MLflow shows of an epoch and of a trial, a table each: one more thing to show is one entry here."""

from collections.abc import Callable, Mapping

from pipelines.intervals import Interval
from pipelines.results import EpochResult
from search.record import Trial, Winner

# Of each epoch, by the metric's name; None: the epoch has no such number.
EPOCH_METRICS: dict[str, Callable[[EpochResult], float | None]] = {
    "train_loss": lambda epoch: epoch.train_loss,
    "epoch_seconds": lambda epoch: epoch.seconds,
    "validation_loss": lambda epoch: epoch.validation_loss,  # spans have none, nor trials of earlier versions
}

# Of each trial, by the tag's name; None: the trial has no such tag.
TRIAL_TAGS: dict[str, Callable[[Trial], object]] = {
    "state": lambda trial: trial.state,
    "reason": lambda trial: trial.reason,
    "seed": lambda trial: trial.seed,
    "trained_parameters": lambda trial: trial.trained_parameters,
    "node": lambda trial: trial.node,
    "refits": lambda trial: None if trial.refits is None else f"trial {trial.refits}",
    "confirms": lambda trial: None if trial.confirms is None else f"trial {trial.confirms}",
}


# Of each winner, by the metric's name, on its own run and on its study's; None: it has no such number.
WINNER_METRICS: dict[str, Callable[[Winner], float | None]] = {
    "baseline_validation": lambda winner: None if winner.baseline is None else winner.baseline.validation,
    "baseline_test": lambda winner: None if winner.baseline is None else winner.baseline.test,
    "majority_test": lambda winner: None if winner.baseline is None else winner.baseline.majority,
    "validation_low": lambda winner: _end(winner, "validation", 0),
    "validation_high": lambda winner: _end(winner, "validation", 1),
    "test_low": lambda winner: _end(winner, "test", 0),
    "test_high": lambda winner: _end(winner, "test", 1),
    "gain_low": lambda winner: _end(winner, "gain", 0),
    "gain_high": lambda winner: _end(winner, "gain", 1),
}


def _end(winner: Winner, of: str, end: int) -> float | None:
    ends: Interval | None = getattr(winner.intervals, of, None)
    return None if ends is None else ends[end]


def winner_metrics(winner: Winner) -> Mapping[str, float]:
    """What a winner is shown by: the scores of each set that was held out, and `WINNER_METRICS`."""
    sets = {"test": winner.test, **winner.also}
    scores = {f"{name}_{metric}": value for name, own in sets.items() for metric, value in own.items()}
    shown = {name: value(winner) for name, value in WINNER_METRICS.items()}
    return scores | {name: value for name, value in shown.items() if value is not None}


def epoch_metrics(epoch: EpochResult) -> Mapping[str, float]:
    """What an epoch is shown by: `EPOCH_METRICS`, and `validation_<metric>` for each of the task's."""
    shown = {name: value(epoch) for name, value in EPOCH_METRICS.items()}
    scores = {f"validation_{name}": value for name, value in epoch.scores.items()}
    return {name: value for name, value in shown.items() if value is not None} | scores


def trial_tags(trial: Trial) -> Mapping[str, str]:
    """What a trial is tagged with: `TRIAL_TAGS`, as text."""
    tags = {name: value(trial) for name, value in TRIAL_TAGS.items()}
    return {name: str(value) for name, value in tags.items() if value is not None}
