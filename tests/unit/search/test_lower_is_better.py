"""A metric of which less is better: searched by its sign, shown as it is."""

import io

import pytest
from rich.console import Console
from studies import create, opened, start

from pipelines.results import EpochResult
from search.decisions.selection import pick_best
from search.progress import ConsoleProgress
from search.report.statistics import Run, best_of, configurations_of
from search.results import job_results
from search.storage import Storage
from search.tables import front_table, study_figure, study_table
from search.tracking.tracker import _best_metric


def epoch(number, loss):
    return EpochResult(
        epoch=number,
        train_loss=1.0,
        scores={"log_loss": loss, "accuracy": 0.5},
        score=-loss,
        seconds=1.0,
        finished_at=float(number),
    )


@pytest.fixture
def study(tmp_path):
    """Three trials; the second is the best, in its first epoch."""
    with opened(tmp_path) as record:
        study = create(record, metric="log_loss")
        for losses in ([0.9, 0.7], [0.3, 0.5], [1.5]):
            number = start(study)
            study.note_trial(number, node="here", trained_parameters=100)
            study.record_epochs(number, [epoch(at, loss) for at, loss in enumerate(losses, start=1)])
            study.finish_trial(number, "complete")
        yield study


def test_the_least_value_wins_and_results_hold_it_as_it_is(study, tmp_path):
    best = pick_best(study.trials())
    assert (best.number, best.best_epoch, best.score) == (1, 1, -0.3)
    (entry,) = job_results((study,), Storage(str(tmp_path)))["tasks"]
    assert (entry["best"]["trial"], entry["best"]["validation"]) == (1, 0.3)


def test_tables_are_sorted_by_what_is_better_and_show_the_raw_values(study):
    lines = [line for line in study_table(study).splitlines() if line.startswith("| ")][2:]
    assert [line.split(" | ")[0].strip("| ") for line in lines] == ["1", "0", "2"]
    assert all(
        f"{value} |" in line for line, value in zip(lines, ("0.3000", "0.7000", "1.5000"), strict=True)
    )
    assert "0.3000" in front_table(study, [study.trials()[1]])


def test_the_best_so_far_of_the_figure_goes_down(study):
    (axes,) = study_figure(study).axes
    (best,) = [line for line in axes.get_lines() if line.get_label() == "best so far"]
    assert best.get_ydata().tolist() == [0.7, 0.3, 0.3, 0.3]


@pytest.mark.integration
def test_the_live_view_and_mlflow_show_the_raw_value(study):
    screen = io.StringIO()
    progress = ConsoleProgress(Console(file=screen, width=300))
    progress.start([(study, 3)])
    progress._views[study.name].trials.clear()
    for trial in study.trials():
        progress.update(study, trial)
    assert "-> 1.5000 (best 0.3000; 3/3 done" in screen.getvalue()
    assert _best_metric(study.trials()[1].best, "log_loss").value == 0.3


def test_a_report_compares_by_the_sign():
    runs = [
        Run(params={"n": n}, seed=0, validation=loss, score=-loss, trained=1)
        for n, loss in enumerate((0.7, 0.3))
    ]
    assert best_of(configurations_of(runs)).params == {"n": 1}
    assert best_of(configurations_of(runs)).validation.value == 0.3
