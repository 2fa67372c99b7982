"""The parts of the page on one job, each a function of what a study holds."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support
from studies import FACTS, trial_record

from search.importance import MIN_TRIALS, Importance, importance_of
from search.record import Baseline, Intervals, Leader, Winner
from search.report.job.board import costs, data, grid_size, leaderboard, leaders
from search.report.job.classes import calibration, class_scores, confusion
from search.report.job.html import Figure
from search.report.job.on_test import FORMS, by_length, on_test
from search.report.job.parameters import parameters
from search.report.job.progress import best_so_far, learning_curves
from search.report.job.svg import Axis, Plot, as_file, short
from search.report.job.view import StudyView
from search.tested import Form, KeptAnswers, Mistake
from spaces import Space

SPACE = Space.parse(
    {"adapter_size": [8, 64], "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "epochs": [4]}
)
HOSTILE = "<script>alert('x')</script>"


def trial(number, scores, *, schedule=4, state=None, size=8, rate=1e-3):
    made = trial_record(number, scores, schedule, factor=3, promoted=9, state=state)
    params = {"adapter_size": size, "learning_rate": rate, "epochs": schedule}
    reason = f"stopped at rung 1 {HOSTILE}" if state == "pruned" else None
    return replace(made, params=params, reason=reason, trained_parameters=100)


TRIALS = (
    trial(0, [0.5, 0.6, 0.7, 0.65]),
    trial(1, [0.4], state="pruned", rate=1e-4),
    trial(2, [0.6, 0.8, 0.9, 0.9], size=64),
)


def view(trials=TRIALS, **changes):
    given = {"space": SPACE, "importance": importance_of(trials, SPACE), **changes}
    return StudyView(task="t", method="adapter", facts=given.pop("facts", FACTS), trials=trials, **given)


def shown(section):
    """All of a section as text, figures included."""
    parts = [f"{one.drawing} {one.caption}" if isinstance(one, Figure) else one for one in section.parts]
    return "\n".join(parts)


def words(section):
    """What is read of it, tags left out."""
    return re.sub(r"<[^>]*>", " ", shown(section))


def winner(number=2, **more):
    return Winner(
        trial=number, metric="accuracy", validation=0.9, test={"accuracy": 0.85}, bundle="b", **more
    )


def test_the_leaderboard_has_the_floor_the_intervals_and_the_verdict():
    found = winner(
        intervals=Intervals((0.81, 0.97), (0.75, 0.93), (0.02, 0.12)),
        baseline=Baseline("probe", 0.77, 0.78, 0.5),
    )
    read = words(leaderboard([view(winner=found)]))
    for said in ("0.7700", "0.7800", "0.9000", "0.8100 to 0.9700", "0.7500 to 0.9300", "100", "3 of 3"):
        assert said in read
    assert "better than a linear probe of the frozen encoder, which has 0.7800: +0.0700" in read


def test_the_leaders_have_a_table_that_says_whether_chance_explains_what_they_lack():
    leading = (Leader(2, (0, 1), 0.88, False), Leader(0, (0,), 0.87, False), Leader(1, (0,), 0.4, True))
    (section,) = leaders(view(winner=winner(leaders=leading)))
    rows = [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", row)) for row in shown(section).split("<tr>")[2:]]
    assert [row.split()[:2] for row in rows] == [["trial", "2"], ["trial", "0"], ["trial", "1"]]
    assert "0, 1 0.8800 the winner" in rows[0]
    assert "0.8700 no" in rows[1]
    assert "0.4000 yes" in rows[2]


def test_where_nobody_else_leads_or_nothing_was_compared_there_is_no_such_table():
    assert leaders(view()) == []
    assert leaders(view(winner=winner())) == []
    assert leaders(view(winner=winner(leaders=(Leader(2, (0,), 0.9, False),)))) == []


def test_of_a_search_that_goes_on_the_best_so_far_is_told_without_a_test_score():
    section = leaderboard([view()])
    assert "not finished; the best so far is trial 2: 0.9000" in words(section)
    assert "0.8500" not in words(section)
    assert "no winner yet" in words(on_test(view()))


def test_the_best_so_far_rises_by_trial_and_by_time():
    by_trial, by_time, *_ = best_so_far(view()).parts
    assert by_trial.caption == "The first trial has 0.7000, the best 0.9000."
    assert by_trial.drawing.count("<circle class='a dot'") == 2 + 1  # complete ones, and the legend's
    assert by_trial.drawing.count("<circle class='a open dot'") == 1 + 1
    # Epochs end at seconds 1 to 4 of the same clock in each trial: the best after each is .6, .8 and .9.
    assert by_time.drawing.count("<circle") == 3


def test_where_less_is_better_the_best_so_far_falls():
    trials = tuple(
        replace(one, epochs=tuple(replace(e, scores={"log_loss": -e.score}) for e in one.epochs))
        for one in (trial(0, [-0.9]), trial(1, [-0.2]))
    )
    (figure, *_) = best_so_far(view(trials, facts=replace(FACTS, metric="log_loss"))).parts
    assert figure.caption == "The first trial has 0.9000, the best 0.2000."
    assert "less is better" in figure.drawing


def test_learning_curves_name_the_leaders_and_say_where_others_were_stopped():
    section = learning_curves(view(winner=winner()))
    assert "trial 2 (won)" in shown(section)
    assert "Stopped early: 1 after epoch 1." in shown(section)
    assert "<path class='grey cross'" in shown(section)


def test_a_reason_that_somebody_else_wrote_is_text():
    for section in (best_so_far(view()), learning_curves(view())):
        assert "<script" not in shown(section)
        assert "&lt;script&gt;" in shown(section)


def test_too_few_trials_tell_no_importance():
    found = importance_of(TRIALS, SPACE)
    assert found.shares is None
    assert f"it takes {MIN_TRIALS} trials to tell, and there are 3" in words(parameters(view()))


@pytest.mark.parametrize("state", [None, "pruned"])
def test_the_parameter_that_scores_follow_matters_most(state):
    """Of stopped trials the scores after the first epoch are compared."""
    trials = [
        trial(
            n,
            [0.5 + 0.4 * (n % 2)] + [0.9] * (0 if state else 3),
            state=state,
            size=(8, 64)[n % 2],
            rate=rate,
        )
        for n, rate in enumerate(np.geomspace(1e-4, 1e-2, 12).tolist())
    ]
    if state is None:
        trials = [replace(one, epochs=one.epochs[:1], state="complete") for one in trials]
    found = importance_of(trials, SPACE)
    assert next(iter(found.shares)) == "adapter_size"
    assert sum(found.shares.values()) == pytest.approx(1)
    assert (found.trials, found.epoch) == (12, None if state is None else 1)


def test_scores_that_are_all_one_tell_nothing():
    trials = [trial(n, [0.5] * 4, rate=1e-4 * (n + 1)) for n in range(12)]
    assert importance_of(trials, SPACE) == Importance(None, 12, None, "all trials score the same")


def test_each_parameter_with_two_values_has_a_plot_and_all_are_in_the_last():
    figures = [part for part in parameters(view()).parts if isinstance(part, Figure)]
    assert [one.key for one in figures] == ["slice_adapter_size", "slice_learning_rate", "parallel"]
    lines = re.findall(r"<polyline class='(\w+) line' points='([^']*)'", figures[-1].drawing)
    assert [len(points.split()) for _, points in lines] == [3, 3, 3]  # two parameters and the score


def test_a_grid_counts_three_values_of_each_range():
    assert grid_size(SPACE) == 2 * 3 * 1
    assert grid_size(Space.parse({"adapter_size": [8, 64, 256], "epochs": [3, 20]})) == 6
    conditional = {"adapter_size": [8, 64], "dropout": {"values": [0.0, 0.1], "when": {"adapter_size": [64]}}}
    assert grid_size(Space.parse(conditional)) == 1 + 2


def test_costs_are_what_was_trained_and_what_a_grid_of_such_trials_would_take():
    read = words(costs(view(winner=winner())))
    # 9 epochs of half a second; all to their end 12; a grid of 6 has 6 times 4.
    assert "Training time of 3 trials: 4 seconds, 9 of 12 epochs" in read
    assert "The same trials, all to their end: about 6 seconds" in read
    assert "a grid: 6 configurations with 3 values of each range, about 12 seconds" in read
    assert "Trained parameters of the best: 100, 10.00%" in read


tables = st.integers(2, 5).flatmap(
    lambda n: st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), min_size=1, max_size=40).map(
        lambda pairs: (n, *zip(*pairs, strict=True))
    )
)


@pytest.mark.integration
@given(tables)
def test_scores_of_classes_are_scikit_learns(drawn):
    classes, targets, chosen = drawn
    matrix = confusion(np.array(targets), np.array(chosen), classes)
    expected = precision_recall_fscore_support(targets, chosen, labels=range(classes), zero_division=0)
    assert pytest.approx(np.array(expected)) == np.array(class_scores(matrix)).T


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_calibration_has_every_row_in_one_bin(rows):
    confidence, right = map(np.array, zip(*rows, strict=True))
    bins = calibration(confidence, right)
    assert sum(count for _, _, count in bins) == len(rows)
    assert sum(share * count for _, share, count in bins) == pytest.approx(right.sum())
    assert sum(mean * count for mean, _, count in bins) == pytest.approx(confidence.sum())


def answered(form: Form, **more):
    rows = 60
    rng = np.random.default_rng(0)
    lengths, targets = rng.integers(5, 300, rows), rng.integers(0, 2, rows)
    predicted = {
        "classes": rng.dirichlet([1, 1], rows),
        "numbers": rng.normal(size=rows),
        "answers": rng.choice([0.0, 0.5, 1.0], rows),
    }[form]
    mistakes = (Mistake(3, HOSTILE, "spam", "ham", 0.75),)
    given = {"labels": ("ham", HOSTILE), "mistakes": mistakes, "sizes": {"test": rows}, **more}
    return KeptAnswers(form, predicted, targets, lengths, **given)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_its_figures_and_its_mistakes_as_text(form):
    section = on_test(view(winner=winner(), tested=answered(form)))
    assert "<script" not in shown(section)
    assert "&lt;script&gt;" in shown(section)
    assert "by_length" in [part.key for part in section.parts if isinstance(part, Figure)]
    assert "accuracy 0.8500" in words(section)


def test_without_kept_answers_the_page_says_so():
    assert "was not kept" in words(on_test(view(winner=winner())))
    assert "Rows:" in words(data(view(winner=winner())))


def test_of_many_classes_the_commonest_confusions_are_listed():
    names = tuple(f"class {n}" for n in range(20))
    targets = np.arange(40) % 20
    predicted = np.eye(20)[np.where(targets == 7, 8, targets)]
    many = KeptAnswers("classes", predicted, targets, np.ones(40), labels=names)
    read = words(on_test(view(winner=winner(), tested=many)))
    assert "The commonest confusions among 20 classes" in read
    assert re.search(r"class 7\s+class 8\s+2\s+100.0%", read)


def test_the_data_is_told_with_classes_what_was_cut_and_what_is_odd():
    found = answered(
        "classes",
        sizes={"train": 10, "validation": 4, "test": 4},
        counts={"train": [7, 3], "validation": [2, 2], "test": [3, 1]},
        truncated={"train": 0.25, "validation": 0.0},
        max_tokens=64,
        notes=("train: 2 of 10 rows are in test again, word for word",),
    )
    read = words(data(view(winner=winner(), tested=found)))
    for said in ("7 (70%)", "1 (25%)", "64 tokens or more", "25.0%", "are in test again"):
        assert said in read


def test_texts_all_of_one_length_have_no_bins():
    assert by_length(np.full(100, 7), np.ones(100), "share right") == []
    assert by_length(np.arange(5), np.ones(5), "share right") == []


@given(
    st.lists(st.floats(1e-6, 1e6, allow_nan=False), min_size=1, max_size=20),
    st.booleans(),
    st.integers(2, 8),
)
def test_an_axis_has_room_for_its_values_and_no_more_ticks_than_asked(values, log, most):
    axis = Axis.over("x", values, log=log)
    assert all(0 <= axis.share(value) <= 1 for value in values)
    ticks = axis.ticks(most)
    assert len(ticks) <= most + 1
    assert all(-1e-6 <= axis.share(place) <= 1 + 1e-6 for place, _ in ticks)


@pytest.mark.parametrize(
    ("value", "text"), [(3e-5, "3e-5"), (2.5e-4, "2.5e-4"), (0.004, "0.004"), (25, "25"), (12345, "12345")]
)
def test_numbers_on_axes_are_short(value, text):
    assert short(value) == text


def test_a_figure_says_what_it_shows_and_stands_alone_as_a_file():
    plot = Plot(Axis("x", 0, 1), Axis("y", 0, 1), f"A & {HOSTILE}", "About.")
    plot.dots([(0.5, 0.5)], "a", tips=[HOSTILE])
    drawing = plot.svg()
    assert "role='img'" in drawing
    assert "<script" not in drawing
    assert b"prefers-color-scheme: dark" in as_file(drawing)
