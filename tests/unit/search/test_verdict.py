"""What is said of a winner beside its baseline."""

import pytest

from search.record import Baseline
from search.verdict import verdict

FLOOR = Baseline(method="probe", validation=0.6, test=0.6, majority=0.4)


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        ((0.02, 0.18), "better than a linear probe"),
        ((-0.05, 0.25), "not shown to be better than a linear probe"),
        ((0.0, 0.2), "not shown to be better than a linear probe"),
    ],
)
def test_a_gain_whose_interval_holds_nothing_is_not_called_one(gain, said):
    words = verdict("accuracy", 0.7, FLOOR, gain)
    assert said in words
    assert "+0.1000" in words
    assert "0.6000" in words


def test_a_winner_that_is_worse_is_said_to_be_with_what_to_use():
    words = verdict("accuracy", 0.5, FLOOR, (-0.2, -0.01))
    assert words.startswith("worse than")
    assert "method: probe" in words


def test_of_a_loss_less_is_better():
    assert verdict("log_loss", 0.5, FLOOR, (0.02, 0.18)).startswith("better")
    assert "+0.1000" in verdict("log_loss", 0.5, FLOOR, (0.02, 0.18))


def test_of_a_gain_that_is_not_known_nothing_is_said():
    assert verdict("accuracy", 0.7, FLOOR, None) == ""
