"""What MLflow shows of a winner."""

from search.record import Baseline, Intervals, Winner
from search.tracking.shown import winner_metrics
from search.verdict import winner_verdict

WINNER = {"trial": 0, "metric": "f1", "validation": 0.5, "test": {"f1": 0.4, "accuracy": 0.6}, "bundle": "b"}


def test_a_winner_is_shown_with_its_scores_alone_where_there_is_no_more():
    winner = Winner(**WINNER, also={"more": {"f1": 0.3}})
    assert winner_metrics(winner) == {"test_f1": 0.4, "test_accuracy": 0.6, "more_f1": 0.3}
    assert winner_verdict(winner) == ""


def test_a_winner_is_shown_beside_its_floor():
    floor = {
        "intervals": Intervals((0.4, 0.6), None, (-0.3, 0.1)),
        "baseline": Baseline("probe", 0.5, 0.45, 0.2),
    }
    winner = Winner(**WINNER, **floor)
    shown = winner_metrics(winner)
    assert shown["baseline_test"] == 0.45
    assert shown["majority_test"] == 0.2
    assert (shown["validation_low"], shown["validation_high"]) == (0.4, 0.6)
    assert (shown["gain_low"], shown["gain_high"]) == (-0.3, 0.1)
    assert "test_low" not in shown
    assert "not shown to be better" in winner_verdict(winner)
