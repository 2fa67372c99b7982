"""What holds of every kind in the table."""

import subprocess
import sys

import numpy as np
import pytest

from pipelines.kinds import KINDS, kind_of
from pipelines.metrics import METRICS, metrics_for
from pipelines.tasks.kind import Scale

OUTPUTS = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 3.0]])


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_a_metric_and_goes_by_its_name(name):
    assert kind_of(name).name == name
    assert metrics_for(name)


def test_every_metric_scores_kinds_that_there_are():
    assert {kind for metric in METRICS.values() for kind in metric.kinds} <= {*KINDS}


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"kind = 'spam': not a kind of task\. Did you mean 'span'\?"):
        kind_of("spam")


def test_tables_are_full_without_torch():
    """The job file is checked without waiting for torch."""
    code = (
        "import sys, pipelines.metrics, pipelines.tasks.task, pipelines.kinds as k; "
        "assert len(k.KINDS) >= 3; assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_probabilities_are_the_softmax_of_the_outputs():
    seen = KINDS["classification"].view("probabilities", OUTPUTS, None, Scale())
    expected = np.exp(OUTPUTS) / np.exp(OUTPUTS).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(seen, expected, rtol=1e-12)


def test_probabilities_of_large_outputs_are_finite():
    seen = KINDS["classification"].view("probabilities", 1e4 * OUTPUTS, None, Scale())
    assert seen.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_only_what_metrics_ask_for_is_computed():
    class Spy(type(KINDS["classification"])):
        def view(self, of, outputs, targets, scale):
            seen.append(of)
            return super().view(of, outputs, targets, scale)

    seen = []
    scores = Spy().score(OUTPUTS, np.array([0, 2]), metrics=("accuracy", "f1"))
    assert seen == ["labels"]
    assert scores == {"accuracy": 1.0, "f1": 1.0}


@pytest.mark.parametrize(
    ("name", "labels", "width"),
    [("classification", ("a", "b", "c"), 3), ("regression", (), 1), ("span", (), 2)],
)
def test_the_head_is_as_wide_as_the_kind_needs(name, labels, width):
    assert kind_of(name).outputs(labels) == width
