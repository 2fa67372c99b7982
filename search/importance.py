"""Which parameters mattered in a study: Optuna's functional ANOVA (Hutter et al. 2014) over its trials."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import optuna
from optuna.distributions import BaseDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import TrialState, create_trial

from search.record import Trial
from spaces import Space

MIN_TRIALS = 10  # of fewer the shares are noise
log = logging.getLogger(__name__)


class Importance(NamedTuple):
    """What came of it.

    Attributes:
        shares: by parameter, of what the scores vary by; they sum to 1, the largest comes first. None: it
            cannot be told.
        trials: whose scores they are of.
        epoch: after which these scores are; None: of complete trials, their best.
        reason: why there are none.
    """

    shares: dict[str, float] | None
    trials: int
    epoch: int | None = None
    reason: str = ""


def importance_of(trials: Sequence[Trial], space: Space) -> Importance:
    """How much of the scores' variance each parameter explains.

    Of complete trials; where halving has left too few, of the scores that all had after their first epoch.
    Parameters with one value, and those that not every trial has, are left out.
    """
    searched = [trial for trial in trials if trial.confirms is None and trial.retries is None]
    scored = [(trial, trial.score) for trial in searched if trial.state == "complete"]
    epoch = None
    if len(scored) < MIN_TRIALS:
        begun = [trial for trial in searched if trial.state in ("complete", "pruned") and trial.epochs]
        if len(begun) < MIN_TRIALS:
            reason = f"it takes {MIN_TRIALS} trials to tell, and there are {len(begun)}"
            return Importance(None, len(begun), reason=reason)
        scored, epoch = [(trial, trial.epochs[0].score) for trial in begun], 1
    varied = {name: one for name, one in space.distributions().items() if not one.single()}
    shared = [name for name in varied if all(name in trial.params for trial, _ in scored)]
    values = {score for _, score in scored}
    if len(shared) < 2 or len(values) < 2:
        few = "one parameter alone was varied" if len(shared) == 1 else "nothing was varied in all trials"
        reason = few if len(shared) < 2 else "all trials score the same"
        return Importance(None, len(scored), epoch, reason)
    try:
        shares = _shares(scored, {name: varied[name] for name in shared})
    except Exception:  # of scikit-learn or Optuna, on scores that nothing explains: the page does without
        log.debug("importances cannot be told", exc_info=True)
        return Importance(None, len(scored), epoch, "the scores do not tell")
    return Importance(shares, len(scored), epoch)


def _shares(
    scored: Sequence[tuple[Trial, float | None]], distributions: dict[str, BaseDistribution]
) -> dict[str, float]:
    study = optuna.create_study(direction="maximize")
    for trial, score in scored:
        params = {name: trial.params[name] for name in distributions}
        study.add_trial(
            create_trial(state=TrialState.COMPLETE, params=params, distributions=distributions, value=score)
        )
    evaluator = FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=True)
