"""Which figures can be drawn from what there is, and what they show."""

import pytest

from search.report.curves import (
    MAX_PANELS,
    make_figures,
    suite_of,
)
from search.report.figures import draw_figure, figure_files
from search.report.series import FigureData, figure_rows
from search.report.statistics import MethodRuns, Run, best_of, configurations_of

FULL = 10_000
PAPER = {f"Figure {number}" for number in (1, 3, 4, 5, 7)}  # its figures; a report may have others


def runs_of(task, method, runs, kind="classification", metric="accuracy"):
    found = configurations_of(runs)
    winner = best_of(found)
    return MethodRuns(task, method, metric, kind, 9_900, found, winner, winner.runs[0])


def run(score, trained, seed=0, **params):
    return Run(params=params, seed=seed, validation=score, score=score, trained=trained)


def adapter(task, full, kind="classification"):
    """Sizes 8 and 64 at two rates: three points below full fine-tuning at best, and one."""
    runs = [
        run(full - loss, trained, adapter_size=size, learning_rate=rate)
        for size, trained, gap in ((8, 100, 0.03), (64, 800, 0.01))
        for rate, loss in ((1e-3, gap), (1e-4, gap + 0.1))
    ]
    return runs_of(task, "adapter", runs, kind)


def fine_tune(task, full):
    return runs_of(
        task,
        "fine_tune",
        [run(full, FULL, learning_rate=3e-5), run(full - 0.2, FULL, learning_rate=1e-3)],
    )


def top_layers(task, full):
    runs = [run(full - 0.1, 3_000, top_layers=1), run(full - 0.05, 6_000, top_layers=2)]
    return runs_of(task, "top_layers", runs)


def study(tasks, *methods):
    made = {"adapter": adapter, "fine_tune": fine_tune, "top_layers": top_layers}
    return {
        task: {method: made[method](task, 0.7 + i / 50) for method in methods} for i, task in enumerate(tasks)
    }


def figures(tasks):
    return {figure.key: figure for figure in make_figures(tasks)[0]}


def curve(panel, method):
    (found,) = [one for one in panel.curves if one.method == method]
    return found


ALL = ("adapter", "fine_tune", "top_layers")
TASKS = ("glue_cola", "glue_rte", "glue_sst2", "sms_spam")


def test_figure_1_shows_what_each_size_loses_against_full_fine_tuning():
    (panel,) = figures(study(TASKS, *ALL))["figure_1"].panels
    marks = curve(panel, "adapter").marks
    assert [(mark.x, mark.n, mark.label) for mark in marks] == [(100, 4, "8"), (800, 4, "64")]
    assert [mark.y for mark in marks] == pytest.approx([-3, -1])
    top = curve(panel, "top_layers").marks
    assert [(mark.x, mark.label) for mark in top] == [(3_000, "1"), (6_000, "2"), (FULL, "all layers")]
    assert [mark.y for mark in top] == pytest.approx([-10, -5, 0])
    assert panel.level == 0


def test_top_layers_of_full_depth_are_full_fine_tuning():
    tasks = study(TASKS, *ALL)
    deep = [run(0.99, FULL, top_layers=3), run(0.5, 3_000, top_layers=1)]
    tasks["glue_cola"]["top_layers"] = runs_of("glue_cola", "top_layers", deep)
    panel = figures(tasks)["figure_4"].panels[0]
    assert panel.level == pytest.approx(99)
    assert [mark.label for mark in curve(panel, "top_layers").marks] == ["1", "all layers"]


def test_without_full_fine_tuning_everywhere_all_tasks_are_compared_with_their_best_and_it_is_said():
    tasks = study(TASKS, "adapter", "fine_tune")
    del tasks["glue_rte"]["fine_tune"]
    figure = figures(tasks)["figure_1"]
    (panel,) = figure.panels
    assert [mark.y for mark in curve(panel, "adapter").marks] == pytest.approx([-3, -1])  # medians of 4
    assert panel.level_name == "its best score of all methods"
    assert "glue_rte" in figure.caption
    assert "cola" not in figure.caption


def test_figure_3_has_a_panel_for_each_suite():
    further = ("sms_spam", "cf_airline", "cf_emotion")
    found = figures(study((*TASKS, *further[1:]), *ALL))["figure_3"]
    assert [panel.title for panel in found.panels] == ["GLUE (n = 3)", "further tasks (n = 3)"]


def test_error_bars_are_one_standard_error_over_seeds():
    runs = [run(s, 100, seed, adapter_size=8) for seed, s in enumerate((0.5, 0.6, 0.7))]
    runs += [run(0.4, 800, adapter_size=64)]
    found = figures({"mine": {"adapter": runs_of("mine", "adapter", runs)}})["figure_4"]
    first, second = curve(found.panels[0], "adapter").marks
    # The deviation of 50, 60, 70 is 10: over the root of 3.
    assert (first.y, first.low, first.high) == pytest.approx((60, 60 - 10 / 3**0.5, 60 + 10 / 3**0.5))
    assert (second.low, second.high, second.n) == (None, None, 1)


def test_figure_7_has_the_best_score_at_each_learning_rate():
    panel = figures(study(TASKS, *ALL))["figure_7"].panels[0]
    assert [(m.x, m.y) for m in curve(panel, "adapter").marks] == [
        (1e-4, pytest.approx(59)),
        (1e-3, pytest.approx(69)),
    ]
    assert [m.y for m in curve(panel, "fine_tune").marks] == pytest.approx([70, 50])
    assert {one.method for one in panel.curves} == {"adapter", "fine_tune"}


def test_a_range_of_learning_rates_is_shown_in_quarters_of_a_decade_at_rates_that_were_tried():
    rates = [1e-4 * 10 ** (i / 20) for i in range(41)]  # two decades
    runs = [run(0.5, 100, learning_rate=rate) for rate in rates]
    marks = (
        figures({"mine": {"adapter": runs_of("mine", "adapter", runs)}})["figure_7"].panels[0].curves[0].marks
    )
    assert len(marks) == 9
    assert {mark.x for mark in marks} <= set(rates)


def test_span_tasks_are_in_figure_5_alone():
    tasks = {**study(TASKS, *ALL), "squad_v1": {"adapter": adapter("squad_v1", 0.8, "span")}}
    found = figures(tasks)
    assert [panel.title for panel in found["figure_5"].panels] == ["squad_v1"]
    assert "squad_v1" not in [panel.title for panel in found["figure_4"].panels]
    assert found["figure_1"].panels[0].title == "all tasks (n = 4)"


@pytest.mark.parametrize(
    ("tasks", "left_out"),
    [
        (study(TASKS, *ALL), {"Figure 5"}),
        (study(TASKS[:2], *ALL), PAPER - {"Figure 4", "Figure 7"}),
        (study(TASKS[:3], "fine_tune"), PAPER - {"Figure 7"}),
        ({"mine": {"adapter": runs_of("mine", "adapter", [run(0.5, 1)])}}, PAPER),
    ],
)
def test_what_cannot_be_drawn_is_named_with_what_it_needs(tasks, left_out):
    made, missing = make_figures(tasks)
    assert {one.title.split(":")[0] for one in missing} & PAPER == left_out
    assert {figure.title.split(":")[0] for figure in made} & PAPER == PAPER - left_out
    assert all(one.reason and one.needed for one in missing)


def test_many_tasks_are_cut_and_that_is_said():
    found = figures(study([f"task{i}" for i in range(MAX_PANELS + 5)], "adapter"))["figure_4"]
    assert len(found.panels) == MAX_PANELS
    assert f"The first {MAX_PANELS} of {MAX_PANELS + 5} tasks" in found.caption


@pytest.mark.integration
@pytest.mark.parametrize("key", ["figure_1", "figure_3", "figure_4", "figure_7"])
def test_a_drawn_figure_shows_the_numbers_on_a_logarithmic_axis_with_n_in_its_legend(key):
    data = figures(study((*TASKS, "cf_airline", "cf_emotion"), *ALL))[key]
    figure = draw_figure(data)
    for axes, panel in zip(figure.axes, data.panels, strict=False):
        assert (axes.get_xscale(), axes.get_xlabel(), axes.get_title()) == ("log", data.x_label, panel.title)
        drawn = {tuple(map(float, line.get_ydata())) for line in axes.get_lines()}
        assert {tuple(mark.y for mark in one.marks) for one in panel.curves} <= drawn
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert sum("n = " in text for text in texts) == len({c.name for p in data.panels for c in p.curves})
    figure.canvas.draw()
    inside = legend.get_window_extent()
    assert inside.x0 >= 0
    assert inside.x1 <= figure.bbox.x1


@pytest.mark.integration
def test_the_same_numbers_are_drawn_to_the_same_bytes():
    data = figures(study(TASKS, *ALL))["figure_1"]
    assert figure_files(data) == figure_files(data)


def test_the_rows_of_a_figure_are_its_points():
    data = figures(study(TASKS, *ALL))["figure_1"]
    head, *rows = figure_rows(data)
    assert head[-4:] == ["points_of_100", "percentile_20", "percentile_80", "tasks"]
    assert len(rows) == sum(len(c.marks) for p in data.panels for c in p.curves)
    assert isinstance(data, FigureData)


def with_losses():
    """Four tasks scored by accuracy, and `mood` by log_loss: 0.5 with the smaller adapters, then 0.25."""
    tasks = study(TASKS, *ALL)
    runs = [
        Run(params={"adapter_size": size}, seed=0, validation=loss, score=-loss, trained=size)
        for size, loss in ((8, 0.5), (64, 0.25))
    ]
    return tasks | {"mood": {"adapter": runs_of("mood", "adapter", runs, metric="log_loss")}}


def test_a_metric_beyond_one_is_drawn_as_it_is_and_named_on_its_axis_and_in_the_csv():
    data = figures(with_losses())["figure_4"]
    panels = {panel.title: panel for panel in data.panels}
    assert [mark.y for mark in panels["mood"].curves[0].marks] == [0.5, 0.25]
    assert panels["mood"].y_label == "validation log_loss"
    assert panels["sms_spam"].y_label == "validation accuracy (of 100)"
    head, *rows = figure_rows(data)
    assert head[4:] == ["score", "minus_1_sem", "plus_1_sem", "seeds", "unit"]
    units = {row[0]: row[-1] for row in rows}
    assert units == dict.fromkeys(TASKS, "points_of_100") | {"mood": "log_loss"}


def test_a_figure_of_one_such_metric_has_a_column_of_its_name():
    mood = {"mood": with_losses()["mood"]}
    assert figure_rows(figures(mood)["figure_4"])[0][4:] == ["log_loss", "minus_1_sem", "plus_1_sem", "seeds"]


def test_percentiles_leave_out_what_has_no_points_and_say_so():
    found = figures(with_losses())["figure_1"]
    assert found.panels == figures(study(TASKS, *ALL))["figure_1"].panels
    assert found.caption.endswith("; left out, as they have no points of 100: mood (log_loss).")
    mood = {"mood": with_losses()["mood"]}
    reasons = {missing.title[:8]: missing.reason for missing in make_figures(mood)[1]}
    for title in ("Figure 1", "Figure 3"):
        assert reasons[title].endswith("; left out, as they have no points of 100: mood (log_loss)")


@pytest.mark.parametrize(
    ("task", "suite"), [("glue_cola", "GLUE"), ("sms_spam", "further tasks"), ("tickets", "other tasks")]
)
def test_a_task_belongs_to_the_papers_suites_by_name(task, suite):
    assert suite_of(task) == suite
