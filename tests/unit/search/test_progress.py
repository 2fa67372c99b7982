"""What a user sees while a search runs, where the output is no terminal: plain lines."""

import io

import pytest
from rich.console import Console
from studies import add, create, epochs, opened, start

from search import progress
from search.progress import ConsoleProgress, Progress
from search.workers.reports import HostState

PARAMS = {"adapter_size": 64, "learning_rate": 1e-3, "epochs": 2}


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def record(tmp_path):
    with opened(tmp_path) as record:
        yield record


class View:
    """A ConsoleProgress and what it has printed."""

    def __init__(self):
        self.console = Console(file=io.StringIO(), width=80)
        self.progress = ConsoleProgress(self.console)

    def update(self, study, number):
        self.progress.update(study, study.trials()[number])

    @property
    def lines(self):
        return self.console.file.getvalue().splitlines()


@pytest.fixture
def view(clock):
    return View()


def test_a_search_says_how_much_there_is_to_do(record, view):
    studies = [create(record, f"job/{task}/adapter") for task in "ab"]
    view.progress.start([(study, 4) for study in studies])
    assert view.lines == ["[0:00] searching: 8 trials over 2 task(s) x method(s)"]


def test_a_resumed_search_says_what_is_done(record, view):
    study = create(record)
    add(study, [0.5])
    start(study)
    view.progress.start([(study, 4)])
    assert "job/task/adapter: going on, 1 of 4 trials are done" in view.lines[0]


def test_the_end_of_a_trial_is_told_once_with_its_configuration_and_the_best(record, view, clock):
    study = create(record)
    view.progress.start([(study, 3)])
    number = start(study, PARAMS)
    view.update(study, number)
    study.record_epochs(number, epochs([0.5, 0.75]))
    view.update(study, number)
    assert len(view.lines) == 1  # a trial that runs is no news
    study.finish_trial(number, "complete")
    clock.now += 65
    for _ in range(3):
        view.update(study, number)
    assert view.lines[1:] == [
        "[1:05] job/task/adapter trial 0: adapter_size=64 learning_rate=0.001 epochs=2 -> 0.7500 "
        "(best 0.7500; 1/3 done, about 2:10 left)"
    ]


def test_a_failed_trial_is_told_with_its_reason_and_without_a_score(record, view):
    study = create(record)
    view.progress.start([(study, 2)])
    view.update(study, add(study, [0.99], "failed", reason="OSError: [/data/x] is gone"))
    assert "-> failed: OSError: [/data/x] is gone (no score yet; 1/2 done" in view.lines[-1]
    view.update(study, add(study, [0.5]))
    assert "(best 0.5000; 2/2 done)" in view.lines[-1]


def test_trials_that_ended_before_the_start_are_not_told_again(record, view):
    study = create(record)
    number = add(study, [0.5])
    view.progress.start([(study, 4)])
    before = view.lines
    view.update(study, number)
    assert view.lines == before


def test_the_time_left_comes_from_the_trials_of_this_run_alone(record, view, clock):
    studies = [create(record, f"job/{task}/adapter") for task in "ab"]
    for _ in range(3):
        add(studies[0], [0.5])  # in no time, by an earlier run
    view.progress.start([(study, 5) for study in studies])
    assert "left" not in view.lines[-1]
    clock.now += 60
    view.update(studies[1], add(studies[1], [0.5]))
    assert "about 6:00 left" in view.lines[-1]  # six more, at a minute each
    clock.now += 60
    view.update(studies[1], add(studies[1], [0.5]))
    assert "about 5:00 left" in view.lines[-1]


def test_hours_are_told_as_hours(record, view, clock):
    study = create(record)
    view.progress.start([(study, 2)])
    clock.now += 3600 + 120 + 3
    view.progress.message("still here")
    assert view.lines[-1] == "[1:02:03] still here"


def test_a_long_line_is_one_line(record, view):
    study = create(record)
    view.progress.start([(study, 2)])
    view.progress.message("word " * 100)
    assert len(view.lines) == 2


def test_brackets_in_a_message_are_no_markup(record, view):
    view.progress.message("[/x] [bold]y")
    view.progress.warn("MLflow is behind ([/x])")
    assert "[/x] [bold]y" in view.lines[0]
    assert view.lines[1] == "MLflow is behind ([/x])"


def test_on_a_terminal_the_live_table_shows_what_is_done_running_and_best(record, clock):
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    study = create(record)
    add(study, [0.5], "failed", reason="x")
    add(study, [0.6])
    shown = ConsoleProgress(console)
    shown.start([(study, 5)])
    try:
        number = start(study, PARAMS)
        study.record_epochs(number, epochs([0.25]))
        shown.update(study, study.trials()[number])
    finally:
        shown.stop()
    text = console.file.getvalue().splitlines()
    (line,) = {line.strip() for line in text if "job/task/adapter " in line and "0.6" in line}
    assert line.split()[:6] == ["job/task/adapter", "2/5", "1", "0", "1", "0.6000"]
    assert any("trial 2:" in line and "epoch 1/2, 0.2500 so far" in line for line in text)
    shown.stop()  # twice is fine


def test_a_search_from_python_says_nothing(record, capsys):
    study = create(record)
    number = add(study, [0.5])
    silent = Progress()
    silent.start([(study, 1)])
    silent.update(study, study.trials()[number])
    silent.message("x")
    silent.warn("x")
    silent.stop()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("hosts", "shown"),
    [
        ([HostState(4, (3,), "gpu-1")], "; trials per pass: 3"),
        ([HostState(8, (5, 2), "gpu-1")], "; trials per pass: 5 + 2"),
        (
            [HostState(8, (5, 2), "gpu-1"), HostState(8, (8,), "gpu-2")],
            "; trials per pass: 5 + 2 on gpu-1, 8 on gpu-2",
        ),
        ([HostState(8, (5,), "gpu-1"), HostState(8, (), "gpu-2")], "; trials per pass: 5"),
        ([HostState(8)], ""),
    ],
)
def test_lines_tell_how_many_trials_share_a_pass_on_each_host(record, view, hosts, shown):
    study = create(record)
    view.progress.start([(study, 1)])
    view.progress.hosts(hosts)
    number = add(study, [0.5])
    view.update(study, number)
    assert view.lines[-1].endswith(f"(best 0.5000; 1/1 done{shown})")


def test_the_table_of_a_terminal_tells_how_many_trials_share_a_pass(clock):
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    progress = ConsoleProgress(console)
    progress.hosts([HostState(8, (8,), "gpu-1")])
    console.print(progress._render())
    assert "0:00 elapsed; trials per pass: 8" in console.file.getvalue()
