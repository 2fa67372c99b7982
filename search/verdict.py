"""Whether a winner is worth its trouble, in words."""

from pipelines.intervals import Interval
from pipelines.metrics import METRICS
from search.record import Baseline, Winner


def verdict(metric: str, test: float, baseline: Baseline, gain: Interval | None) -> str:
    """What is said of a winner's test score beside the baseline's.

    Args:
        gain: the 95 % interval of what is between them, above 0 where the winner is better. None: nothing is
            said; it is not known, or the winner is the baseline itself.
    """
    if gain is None:
        return ""
    signed = METRICS[metric].signed
    difference = signed(test) - signed(baseline.test)
    over = f"a linear probe of the frozen encoder, which has {baseline.test:.4f}"
    sure = f"{difference:+.4f} (95 %: {gain[0]:+.4f} to {gain[1]:+.4f})"
    if gain[0] > 0:
        return f"better than {over}: {sure}"
    if gain[1] < 0:
        return f"worse than {over}: {sure}; use the probe (method: probe)"
    return f"not shown to be better than {over}: {sure}; with so few test rows they cannot be told apart"


def winner_verdict(winner: Winner) -> str:
    """Whether it is worth its trouble, in words; empty where there is nothing to compare it with."""
    if winner.baseline is None:
        return ""
    gain = None if winner.intervals is None else winner.intervals.gain
    return verdict(winner.metric, winner.test[winner.metric], winner.baseline, gain)
