"""A job is known to be usable, or everything wrong with it is told, before anything starts."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny import save_tiny_encoder, tiny_backbone, toy_spans, write_spans

from search import experience
from search.cli.check import print_plan
from search.errors import JobError
from search.job.job import SearchJob
from search.plan import make_plan, name_collisions
from search.record import Experience


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an encoder and a good task."""
    save_tiny_encoder(tmp_path / "encoder")
    rows = [f"goal {row},sport" if row % 2 else f"bank {row},money" for row in range(40)]
    (tmp_path / "good.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    return tmp_path


def load(folder: Path, **changes: Any) -> SearchJob:
    raw = {
        "name": "job",
        "backbone": "encoder",
        "tasks": [{"name": "good", "files": {"train": "good.csv"}}],
        "max_tokens": 16,
        "storage": str(folder / "runs"),
        **changes,
    }
    return SearchJob.parse(raw, source="job.yaml", folder=folder)


def test_a_good_job_has_a_plan_and_leaves_nothing_behind(folder: Path) -> None:
    plan = make_plan(load(folder, search={"trials": 5}))
    assert [data.task.name for data in plan.tasks] == ["good"]
    assert plan.trials == 5
    assert not (folder / "runs").exists()


def test_check_tells_of_folds_and_what_they_cost(folder: Path) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    print_plan(make_plan(load(folder, split={"folds": 4})), console)
    told = console.export_text()
    assert "4 folds: a trial trains 4 models, in as many steps as 3 on all rows take" in told
    assert "then the winner again on train and validation" in told
    assert "36 in 4 folds, 4 test rows" in told


def test_a_job_without_folds_has_a_validation_set_and_says_nothing_of_them(folder: Path) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    print_plan(make_plan(load(folder)), console)
    told = console.export_text()
    assert "32 train, 4 validation, 4 test rows" in told
    assert " folds" not in told
    assert "train and validation" not in told


def told_of(job: SearchJob) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    print_plan(make_plan(job), console)
    return console.export_text()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {},
            "then the leaders, where they cannot be told apart, again with further seeds, in at most 25%",
        ),
        ({"confirm": {"budget": 1.5}}, "in at most 150% of the search's epochs"),
        ({"confirm": {"top": 2, "seeds": 3}}, "then the best 2 with 3 seeds"),
        (
            {"search": {"trials": 1}},
            "adapter is not run again: there is one configuration, so nothing to choose",
        ),
        (
            {"method": "probe", "space": {"pooling": ["mean", "cls"]}},
            "probe is not run again: another seed changes next to nothing",
        ),
    ],
)
def test_check_says_what_is_run_again_with_further_seeds_and_what_is_not(
    folder: Path, changes: dict[str, Any], line: str
) -> None:
    told = told_of(load(folder, **changes))
    assert line in told
    assert ("then the leaders" in told) == ("search's epochs" in line or not changes)


def test_check_says_that_spans_are_not_compared(folder: Path) -> None:
    write_spans(folder / "spans.json", toy_spans().train)
    spans = {"name": "spans", "kind": "span", "files": {"train": "spans.json"}}
    told = told_of(load(folder, tasks=[spans], max_tokens=64, split={"validation": 0.2, "test": 0.2}))
    assert "spans is not run again: what is predicted of every token is not kept to be compared" in told
    assert "then the leaders" not in told


def test_check_says_nothing_of_leaders_where_none_are_run_again(folder: Path) -> None:
    assert "run again" not in told_of(load(folder, confirm="none"))


def test_what_cannot_be_put_into_folds_is_told_with_the_other_problems(folder: Path) -> None:
    tasks = [
        {"name": "good", "files": {"train": "good.csv"}},
        {"name": "other", "files": {"train": "none.csv"}},
    ]
    with pytest.raises(JobError) as caught:
        make_plan(load(folder, tasks=tasks, split={"folds": 30}))
    told = str(caught.value)
    assert "split.folds = 30: good: the rarest class has 18 rows" in told
    assert "other.files.train" in told


def test_tasks_in_folds_share_one_set_of_arrays_whatever_their_methods_read(folder: Path) -> None:
    plan = make_plan(load(folder, split={"folds": 4}, method=["adapter", "probe", "embeddings"]))
    (task,) = plan.encode()
    assert task.validation is task.train
    assert task.texts is not None
    assert task.texts.validation is task.texts.train
    assert len(task.fold(0).train) + len(task.fold(0).validation) == len(task.train) == 36


def test_a_finite_space_limits_the_trials(folder: Path) -> None:
    plan = make_plan(load(folder, space={"adapter_size": [2, 4], "epochs": [1]}))
    assert plan.trials == 2


def test_trained_parameters_go_by_the_papers_formula(folder: Path) -> None:
    plan = make_plan(load(folder, space={"adapter_size": [2, 8]}))
    d, layers = plan.backbone.width, 2
    norms_and_head = (2 * layers + 1) * 2 * d + 2 * d + 2
    expected = tuple(2 * layers * (2 * m * d + d + m) + norms_and_head for m in (2, 8))
    assert plan.trained_parameters("adapter", outputs=2) == expected


def test_problems_of_all_tasks_and_of_the_backbone_are_told_at_once(folder: Path) -> None:
    (folder / "one_class.csv").write_text("text,label\na,x\nb,x\n")
    (folder / "no_label.csv").write_text("text,lable\na,x\nb,y\n")
    tasks = [
        {"name": "gone", "files": {"train": "gone.csv"}},
        {"name": "one_class", "files": {"train": "one_class.csv"}},
        {"name": "no_label", "files": {"train": "no_label.csv"}},
        {"name": "good", "files": {"train": "good.csv"}},
    ]
    with pytest.raises(JobError) as caught:
        make_plan(load(folder, tasks=tasks, backbone="./no-such-encoder"), source="job.yaml")
    text = str(caught.value)
    assert text.startswith("job.yaml: 4 problem(s)")
    assert "gone.files.train" in text
    assert "no such file" in text
    assert "every row of train is 'x'" in text
    assert "Did you mean 'lable'?" in text
    assert "backbone" in text
    assert not (folder / "runs").exists()


def test_more_tokens_than_the_backbone_takes_are_refused(folder: Path) -> None:
    with pytest.raises(JobError, match=r"max_tokens = 8000: backbone .* takes at most"):
        make_plan(load(folder, max_tokens=8000))


def test_a_pooler_that_the_backbone_lacks_is_refused(folder: Path) -> None:
    save_tiny_encoder(folder / "bare", "electra")
    with pytest.raises(JobError, match="pooling = 'pooler'"):
        make_plan(load(folder, backbone="bare", pooling="pooler"))


def spans(folder: Path, examples: Any, **changes: Any) -> SearchJob:
    write_spans(folder / "spans.parquet", examples)
    task = {"name": "animals", "kind": "span", "files": {"train": "spans.parquet"}}
    return load(folder, tasks=[task], **{"max_tokens": 24, **changes})


def test_a_span_task_is_planned_as_any_other_and_its_head_has_two_outputs(folder: Path) -> None:
    plan = make_plan(spans(folder, toy_spans(rows=80).train, space={"adapter_size": 4, "epochs": 1}))
    (data,) = plan.tasks
    assert (data.outputs, data.labels) == (2, ())
    assert [len(split) for split in (data.train, data.validation, data.test)] == [64, 8, 8]
    limited = spans(
        folder, toy_spans(rows=80).train, search={"max_trained_parameters": 10}, space={"adapter_size": 4}
    )
    with pytest.raises(JobError, match="animals/adapter: the smallest configuration trains"):
        make_plan(limited)


def test_a_span_task_whose_answers_fit_no_window_is_refused_before_anything_starts(folder: Path) -> None:
    words = " ".join(["the printer was very happy today"] * 6)
    long = [replace(one, context=words, answers=(words,), starts=(0,)) for one in toy_spans(rows=80).train]
    with pytest.raises(JobError, match="max_tokens = 24: animals: no window of so many tokens holds a whole"):
        make_plan(spans(folder, long))
    assert not (folder / "runs").exists()


def test_a_span_task_whose_answers_are_not_in_their_contexts_is_refused(folder: Path) -> None:
    wrong = [replace(one, answers=("purple cow",)) for one in toy_spans(rows=80).train]
    with pytest.raises(JobError, match=r"animals.train = \d+: no answer is in its context"):
        make_plan(spans(folder, wrong))


def test_a_foreign_package_of_one_of_our_names_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "spaces-0.36.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spaces\nVersion: 0.36\n")
    (info / "top_level.txt").write_text("spaces\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (line,) = name_collisions()
    assert "'spaces' also installs a package called 'spaces'" in line
    assert "Uninstall 'spaces'" in line


@pytest.fixture
def like_these(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ships is of encoders as narrow as those of the tests."""
    known = experience.shipped()
    tasks = tuple(
        replace(task, facts=replace(task.facts, width=tiny_backbone().width)) for task in known.tasks
    )
    monkeypatch.setattr(experience, "shipped", lambda: known._replace(tasks=tasks))


def begins(plan: Any, method: str = "adapter", own: Experience | None = None) -> Experience:
    return experience.begin(plan, plan.tasks[0], method, own or Experience())


@pytest.mark.usefixtures("like_these")
def test_a_very_first_search_begins_with_what_ships_and_check_shows_it(folder: Path) -> None:
    plan = make_plan(load(folder))
    first = begins(plan)
    assert first.portfolio
    assert all(plan.job.space_for("adapter").contains(params) for params in first.portfolio)
    console = Console(width=200, record=True, file=io.StringIO())
    print_plan(plan, console, experience={("good", "adapter"): first})
    told = console.export_text()
    assert f"experience of adapter: {experience.shipped().name}" in told
    assert told.count("  begins with adapter_size=") == len(first.portfolio)


@pytest.mark.usefixtures("like_these")
def test_the_users_own_jobs_come_before_what_ships(folder: Path) -> None:
    own = Experience(("earlier/good/adapter",), ({"adapter_size": 8},))
    assert begins(make_plan(load(folder)), own=own) == own


@pytest.mark.usefixtures("like_these")
@pytest.mark.parametrize("wanted", ["none", ["earlier"]])
def test_who_asks_for_none_or_for_some_jobs_gets_nothing_else(folder: Path, wanted: Any) -> None:
    assert begins(make_plan(load(folder, search={"experience": wanted}))) == Experience()


@pytest.mark.usefixtures("like_these")
def test_what_ships_is_for_the_method_that_was_recorded_alone(folder: Path) -> None:
    assert begins(make_plan(load(folder, method="layer_norm")), "layer_norm") == Experience()


@pytest.mark.usefixtures("like_these")
def test_what_ships_is_for_the_kinds_that_were_recorded_alone(folder: Path) -> None:
    job = spans(folder, toy_spans(rows=80).train, space={"adapter_size": 4, "epochs": 1})
    assert begins(make_plan(job)) == Experience()


def test_of_an_encoder_unlike_those_recorded_nothing_is_known(folder: Path) -> None:
    assert begins(make_plan(load(folder))) == Experience()
