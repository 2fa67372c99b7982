import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.kinds import KINDS
from pipelines.metrics import METRICS, metrics_for, score

# 3 true positives, 1 false positive, 2 false negatives, 4 true negatives
LABELS = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]
PREDICTIONS = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
NUMERIC = {"labels", "numbers"}


def test_each_kind_has_its_metrics_and_the_first_is_its_default():
    for kind, ours in (
        ("classification", ("accuracy", "f1", "matthews", "log_loss")),
        ("regression", ("spearman", "pearson")),
        ("span", ("squad_f1", "squad_em")),
    ):
        assert metrics_for(kind)[: len(ours)] == ours  # others come behind


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_scores_kinds_that_there_are(name):
    assert {*METRICS[name].kinds} <= {*KINDS}


def test_accuracy_is_the_fraction_that_is_right():
    assert score("accuracy", PREDICTIONS, LABELS) == pytest.approx(7 / 10)


def test_f1_with_a_positive_class_is_2tp_over_2tp_plus_fp_plus_fn():
    assert score("f1", PREDICTIONS, LABELS, positive=1) == pytest.approx(6 / (6 + 1 + 2))
    assert score("f1", PREDICTIONS, LABELS, positive=0) == pytest.approx(8 / (8 + 2 + 1))


def test_f1_without_a_positive_class_is_the_mean_over_the_classes():
    assert score("f1", PREDICTIONS, LABELS) == pytest.approx((6 / 9 + 8 / 11) / 2)


CLASSES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


@pytest.mark.integration
@given(CLASSES, st.integers(0, 5))
def test_f1_and_matthews_are_those_of_scikit_learn(rows, positive):
    from sklearn.metrics import f1_score, matthews_corrcoef

    labels, said = (list(column) for column in zip(*rows, strict=True))
    macro = f1_score(labels, said, average="macro", zero_division=0.0)
    assert score("f1", said, labels) == pytest.approx(macro, abs=1e-12)
    one = f1_score(np.equal(labels, positive), np.equal(said, positive), zero_division=0.0)
    assert score("f1", said, labels, positive=positive) == pytest.approx(one, abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a single class
        assert score("matthews", said, labels) == pytest.approx(matthews_corrcoef(labels, said), abs=1e-12)


def test_matthews_follows_its_definition():
    tp, fp, fn, tn = 3, 1, 2, 4
    expected = (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    assert score("matthews", PREDICTIONS, LABELS) == pytest.approx(expected)


def test_spearman_is_1_for_any_growing_relation_and_pearson_is_not():
    labels = np.arange(1.0, 6.0)
    assert score("spearman", labels**3, labels) == pytest.approx(1.0)
    assert score("pearson", labels**3, labels) < 0.99


def test_pearson_and_spearman_match_worked_examples():
    assert score("pearson", [1.0, 2.0, 3.0], [1.0, 3.0, 2.0]) == pytest.approx(0.5)
    assert score("spearman", [1.0, 2.0, 3.0, 4.0], [10.0, 30.0, 20.0, 40.0]) == pytest.approx(1 - 6 * 2 / 60)


@pytest.mark.parametrize("name", sorted(name for name, metric in METRICS.items() if metric.of in NUMERIC))
def test_perfect_predictions_have_the_best_score_there_is(name):
    best = METRICS[name].range[METRICS[name].better == "higher"]
    assert score(name, LABELS, LABELS, positive=1) == pytest.approx(best)


@pytest.mark.parametrize(
    ("name", "predictions", "labels"),
    [
        ("spearman", [2.0, 2.0, 2.0], [1.0, 2.0, 3.0]),
        ("pearson", [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]),
        ("spearman", [1.0], [1.0]),
        ("pearson", [1.0], [1.0]),
        ("matthews", [1, 1, 1], [1, 0, 1]),
        ("matthews", [1, 1], [1, 1]),
    ],
)
def test_an_undefined_score_is_0(name, predictions, labels):
    assert score(name, predictions, labels) == 0.0


def test_f1_of_a_class_that_neither_occurs_nor_is_predicted_is_0():
    assert score("f1", [0, 0], [0, 0], positive=1) == 0.0


@pytest.mark.parametrize("name", ["spearman", "pearson"])
@given(
    rows=st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False)
        ),
        min_size=1,
    )
)
def test_a_correlation_is_finite_and_never_warns(name, rows):
    predictions, labels = zip(*rows, strict=True)
    assert -1.0001 <= score(name, predictions, labels) <= 1.0001


@pytest.mark.integration
@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews"])
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1),
    positive=st.none() | st.integers(0, 3),
)
def test_a_classification_score_is_in_range_and_never_warns(name, rows, positive):
    predictions, labels = zip(*rows, strict=True)
    assert -1.0001 <= score(name, predictions, labels, positive=positive) <= 1.0001


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_predictions_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="pearson: 1 predictions are not finite"):
        score("pearson", [1.0, bad], [1.0, 2.0])


@pytest.mark.parametrize(("predictions", "labels"), [([], []), ([1, 0], [1]), ([[1], [0]], [[1], [0]])])
def test_shapes_that_differ_or_hold_no_row_are_refused(predictions, labels):
    with pytest.raises(ValueError, match="accuracy needs predictions and labels of one shape"):
        score("accuracy", predictions, labels)


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown metric 'acuracy'; known: accuracy, f1, matthews"):
        score("acuracy", [1], [1])


# Probabilities.


def test_log_loss_matches_a_worked_example():
    """-(ln 1/2 + ln 1/4) / 2"""
    assert score("log_loss", [[0.5, 0.5], [0.75, 0.25]], [0, 1]) == pytest.approx(1.5 * np.log(2))


@pytest.mark.integration
@given(
    rows=st.lists(
        st.tuples(st.lists(st.floats(0, 1, width=16), min_size=3, max_size=3), st.integers(0, 2)), min_size=1
    )
)
def test_log_loss_is_scikit_learns(rows):
    from sklearn.metrics import log_loss

    raw = np.array([weights for weights, _ in rows]) + 1e-3
    probabilities, labels = raw / raw.sum(axis=1, keepdims=True), [label for _, label in rows]
    assert score("log_loss", probabilities, labels) == pytest.approx(
        log_loss(labels, probabilities, labels=[0, 1, 2])
    )


def test_log_loss_of_a_class_that_was_ruled_out_is_finite():
    assert 36 < score("log_loss", [[1.0, 0.0]], [1]) < 37


@pytest.mark.parametrize(
    ("predictions", "labels"), [([], []), ([[0.5, 0.5]], [0, 1]), ([0.5], [0]), ([[1.0]], [[0]])]
)
def test_probabilities_that_do_not_fit_the_labels_are_refused(predictions, labels):
    with pytest.raises(ValueError, match=r"log_loss needs predictions \(rows, classes\) and labels"):
        score("log_loss", predictions, labels)


def test_a_score_of_which_less_is_better_is_signed_for_the_search():
    assert METRICS["log_loss"].signed(0.3) == -0.3
    assert METRICS["log_loss"].signed(-0.3) == 0.3
    assert METRICS["accuracy"].signed(0.3) == 0.3


# Spans.


@pytest.mark.parametrize(
    ("prediction", "references", "f1", "exact"),
    [  # evaluate-v1.1.py of Rajpurkar et al. 2016; torchmetrics 1.9 says the same but for the last
        ("1976", ["1976"], 1, 1),
        ("The Denver  Broncos!", ["Carolina Panthers", "denver broncos"], 1, 1),
        ("U.S.", ["us"], 1, 1),
        ("an apple a day", ["apple, day"], 1, 1),
        (  # 3 of 3 and 3 of 11 words
            "Santa Clara, California",
            ["Levi's Stadium", "Levi's Stadium in the San Francisco Bay Area at Santa Clara, California."],
            2 * 3 / (3 + 11),
            0,
        ),
        ("b b", ["b c"], 2 * 1 / (2 + 2), 0),
        ("", ["Denver"], 0, 0),
        ("the", ["a"], 0, 1),  # no word is common to two that have none
    ],
)
def test_answers_score_as_the_official_script_has_them(prediction, references, f1, exact):
    assert score("squad_f1", [prediction], [references]) == pytest.approx(f1)
    assert score("squad_em", [prediction], [references]) == exact


@pytest.mark.parametrize("name", metrics_for("span"))
def test_scores_are_means_over_questions(name):
    assert score(name, ["a b", "c"], [["b"], ["d"]]) == 0.5


@pytest.mark.parametrize(("predictions", "references"), [([], []), (["a"], []), (["a"], [[]])])
def test_nothing_to_score_is_refused(predictions, references):
    with pytest.raises(ValueError, match="squad_em needs references for each prediction"):
        score("squad_em", predictions, references)
