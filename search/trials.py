"""A trial as Optuna keeps it: the names of its user attributes, and our `Trial` out of them."""

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from pipelines.results import EpochResult
from search.record import Outcome, State, Trial, waiting_rung

EPOCH = "epoch:"  # epoch:N -> an EpochResult as a dict
TRAINED_PARAMETERS, NODE = "fact:trained_parameters", "fact:node"
SEED, REASON = "seed", "reason"
RUNGS, PROMOTED, CONFIRMS, RETRIES = "rungs", "promoted", "confirms", "retries"
REFITS, LENGTH = "refits", "length"

STATES: dict[TrialState, Outcome] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
OUTCOMES = {outcome: state for state, outcome in STATES.items()}


def trial_of(trial: FrozenTrial, attributes: Mapping[str, Any], method: str) -> Trial:
    """The trial that Optuna has with these attributes, of a study of this method."""
    state: State = STATES[trial.state]
    epochs = [EpochResult.from_dict(value) for key, value in attributes.items() if key.startswith(EPOCH)]
    rungs, promoted = tuple(attributes.get(RUNGS, ())), int(attributes.get(PROMOTED, 0))
    if state == "running" and waiting_rung(rungs, promoted, len(epochs)) is not None:
        state = "paused"
    return Trial(
        number=trial.number,
        state=state,
        params=trial.params,
        epochs=tuple(sorted(epochs, key=lambda epoch: epoch.epoch)),
        # A driver of an earlier version, killed before the end, left a reason to a trial that then goes on.
        reason=attributes.get(REASON) if state in ("complete", "pruned", "failed") else None,
        seed=int(attributes.get(SEED, 0)),
        trained_parameters=attributes.get(TRAINED_PARAMETERS),
        node=attributes.get(NODE),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        rungs=rungs,
        promoted=promoted,
        confirms=attributes.get(CONFIRMS),
        retries=attributes.get(RETRIES),
        refits=attributes.get(REFITS),
        length=attributes.get(LENGTH),
        method=method,
    )
