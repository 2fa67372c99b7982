"""The leaderboard on a terminal, and a study's table and figure as MLflow keeps them."""

import io

import pytest
from rich.console import Console
from studies import add, create, note_winner, opened, start

from search.record import Baseline, Intervals, Leader
from search.results import job_results
from search.storage import Storage
from search.tables import describe_leaders, format_params, results_table, study_figure, study_table


@pytest.fixture
def record(tmp_path):
    with opened(tmp_path) as record:
        yield record


@pytest.fixture
def study(record):
    """One trial of each kind; the best is the third."""
    study = create(record)
    add(study, [0.5, 0.6])
    add(study, [0.99], "failed", reason="RuntimeError: a|b [/data/x] is gone")
    add(study, [0.9, 0.8], trained=2_500)
    add(study, [0.4], "pruned", reason="below the median")
    start(study)
    return study


def printed(renderable):
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    return console.file.getvalue()


def rows(markdown):
    """The cells of a Markdown table, without its head."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def series(figure):
    (axes,) = figure.axes
    return {line.get_label(): [float(y) for y in line.get_ydata()] for line in axes.get_lines()}


def test_parameters_are_on_one_line_as_short_as_they_are_clear():
    params = {"adapter_size": 64, "learning_rate": 0.00123456, "epochs": 3}
    assert format_params(params) == "adapter_size=64 learning_rate=0.00123 epochs=3"


def test_the_leaderboard_has_a_line_for_each_study(study, record, tmp_path):
    create(record, "job/other/adapter", position=1)
    text = printed(results_table(job_results(record.studies("job"), Storage(str(tmp_path)))))
    (line,) = [line for line in text.splitlines() if line.strip().startswith("task ") and "accuracy" in line]
    for shown in ("accuracy", "0.9000", "2,500 (250.0%)", "3/5"):
        assert shown in line
    assert sum(line.strip().startswith("other ") for line in text.splitlines()) == 1
    assert "task/adapter: trial 2: adapter_size=" in text
    assert "job: interrupted" in text


def test_a_task_s_floor_is_the_first_of_its_lines_and_the_winner_is_compared_with_it(record, tmp_path):
    found = {
        "test": {"accuracy": 0.8},
        "intervals": Intervals((0.6, 0.8), (0.71, 0.89), (-0.02, 0.12)),
        "baseline": Baseline("probe", 0.65, 0.75, 0.5),
    }
    for position, method in enumerate(("adapter", "layer_norm")):
        study = create(record, f"job/task/{method}", position=position)
        add(study, [0.7])
        note_winner(study, 0, **found)
    text = printed(results_table(job_results(record.studies("job"), Storage(str(tmp_path)))))
    lines = [line for line in text.splitlines() if line.strip().startswith("task ")]
    assert len(lines) == 1 + 1 + 2
    floor = lines[1]
    assert [" floor " in line for line in lines] == [False, True, False, False]
    assert "0.6500" in floor
    assert "0.7500" in floor
    assert "test 95 %: 0.7100 to 0.8900" in text
    assert "not shown to be better than a linear probe" in text


LEADING = (
    Leader(0, (0, 1), 0.75, told_apart=False),
    Leader(1, (0, 1), 0.74, told_apart=False),
    Leader(2, (0,), 0.7, told_apart=False),
    Leader(3, (0,), 0.2, told_apart=True),
)
PARAMS = {number: {"adapter_size": number + 1} for number in range(4)}


def test_leaders_that_cannot_be_told_apart_are_named_with_what_they_have():
    assert describe_leaders(LEADING, PARAMS, PARAMS[0]) == (
        "on validation it cannot be told apart from 2 of the 3 other leading configurations: "
        "trial 1 (adapter_size=2) 0.7400 over 2 seeds, trial 2 (adapter_size=3) 0.7000"
    )
    brief = describe_leaders(LEADING, PARAMS, PARAMS[0], brief=True)
    assert brief.endswith("configurations: trial 1 0.7400 over 2 seeds, trial 2 0.7000")


def test_a_winner_that_is_ahead_of_all_is_said_to_be_and_one_alone_or_not_compared_says_nothing():
    assert describe_leaders((LEADING[0], LEADING[3]), PARAMS, PARAMS[0]) == (
        "on validation better than the other leading configuration, beyond chance (95 %)"
    )
    far = (LEADING[0], LEADING[3], Leader(2, (0,), 0.1, told_apart=True))
    assert "better than all 2 other leading configurations," in describe_leaders(far, PARAMS, PARAMS[0])
    assert describe_leaders(LEADING[:1], PARAMS, PARAMS[0]) == ""
    assert describe_leaders((), {}, PARAMS[0]) == ""


def test_the_leaderboard_says_which_configurations_cannot_be_told_apart(record, tmp_path):
    study = create(record)
    for score in (0.75, 0.74):
        add(study, [score])
    note_winner(study, 0, leaders=LEADING[:2])
    text = " ".join(printed(results_table(job_results([study], Storage(str(tmp_path))))).split())
    assert "cannot be told apart from the other leading configuration: trial 1 0.7400" in text


def test_a_winner_over_folds_says_so_and_which_trial_was_tested(record, tmp_path):
    study = create(record, job={"split": {"folds": 5}})
    add(study, [0.7])
    note_winner(study, 0, refit=1)
    text = printed(results_table(job_results([study], Storage(str(tmp_path)))))
    assert (
        "; validation over 5 folds; tested and exported as trained again on all rows (trial 1)"
        in " ".join(text.split()).replace("\n", " ")
    )


def test_a_failed_study_shows_its_reason_as_it_is(record, tmp_path):
    # rich would take [/data/x] for the end of a markup tag, and fail.
    study = create(record)
    study.fail("no trial of 1 ended well: OSError: [/data/x] is gone")
    text = printed(results_table(job_results(record.studies("job"), Storage(str(tmp_path)))))
    assert "OSError: [/data/x] is gone" in text


def test_a_study_table_has_every_trial_best_first(study):
    assert [row[0] for row in rows(study_table(study))] == ["2", "0", "3", "1", "4"]


def test_a_study_table_tells_scores_and_why_a_trial_ended(study):
    table = {row[0]: row for row in rows(study_table(study))}
    assert table["2"][4:] == ["0.9000", "1", "2,500", "1.0", "complete"]
    assert table["3"][4] == "0.4000"
    assert table["3"][-1] == "pruned: below the median"
    assert table["1"][4:6] == ["", ""]  # a failed trial has no score
    assert table["4"][-1] == "running"


def test_a_reason_with_a_bar_does_not_break_the_table(study):
    assert {len(row) for row in rows(study_table(study))} == {9}


def test_a_study_without_trials_has_a_table_and_a_figure(record):
    study = create(record)
    assert rows(study_table(study)) == []
    study_figure(study).canvas.draw()


def test_the_figure_shows_scores_and_the_best_so_far_of_complete_trials_only(study):
    found = series(study_figure(study))
    assert found["complete (n = 2)"] == [0.6, 0.9]
    assert found["not complete"] == [0.4]
    assert found["best so far"][:2] == [0.6, 0.9]
    assert max(found["best so far"]) == 0.9  # not the failed trial's 0.99
    assert len(found["failed"]) == 1


@pytest.mark.integration
def test_the_figure_names_its_axes_and_its_study(study):
    figure = study_figure(study)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == (
        "trial",
        "validation accuracy",
        "job/task/adapter",
    )
    figure.canvas.draw()
