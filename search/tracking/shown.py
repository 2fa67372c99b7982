"""What MLflow shows of an epoch and of a trial, a table each: one more thing to show is one entry here."""

from collections.abc import Callable, Mapping

from pipelines.results import EpochResult
from search.record import Trial

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
    "confirms": lambda trial: None if trial.confirms is None else f"trial {trial.confirms}",
}


def epoch_metrics(epoch: EpochResult) -> Mapping[str, float]:
    """What an epoch is shown by: `EPOCH_METRICS`, and `validation_<metric>` for each of the task's."""
    shown = {name: value(epoch) for name, value in EPOCH_METRICS.items()}
    scores = {f"validation_{name}": value for name, value in epoch.scores.items()}
    return {name: value for name, value in shown.items() if value is not None} | scores


def trial_tags(trial: Trial) -> Mapping[str, str]:
    """What a trial is tagged with: `TRIAL_TAGS`, as text."""
    tags = {name: value(trial) for name, value in TRIAL_TAGS.items()}
    return {name: str(value) for name, value in tags.items() if value is not None}
