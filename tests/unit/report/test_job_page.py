"""The page on one job as a whole: from a record, in one file that needs and runs nothing."""

import json
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from studies import add, create, filled, note_winner, opened

from search.errors import UserError
from search.job.job import SearchJob
from search.report.job.advice import steps
from search.report.job.page import PAGE, job_files
from search.report.job.view import view_of
from search.storage import Storage, answers_key
from search.tested import KeptAnswers, Mistake, write_answers

HOSTILE = "</style><script>alert('x')</script>"
VOID = {"meta"}
JOB = {
    "name": "job",
    "backbone": "encoder",
    "tasks": [{"name": "task", "files": {"train": "/data/train.csv"}, "limit": {"train": 600}}],
    "space": {"adapter": {"adapter_size": [8, 64, 256], "learning_rate": [1e-4, 1e-3], "epochs": [2, 3]}},
    "search": {"trials": 6},
    "confirm": "none",
}


def fill(record):
    job = SearchJob.parse(JOB)
    study = create(
        record,
        "job/task/adapter",
        job=job.to_record(),
        content=job.content(),
        sizes={"train": 9, "validation": 60, "test": 60},
    )
    for score in (0.5, 0.6, 0.7, 0.8, 0.9):
        add(study, [score / 2, score])
    add(study, [0.1], "failed", reason=HOSTILE)
    note_winner(study, 4)


@pytest.fixture
def place(tmp_path):
    storage = Storage(str(filled(tmp_path / "runs of mine", fill)))
    rng = np.random.default_rng(0)
    answers = KeptAnswers(
        "classes",
        rng.dirichlet([1, 1], 60).astype(np.float32),
        rng.integers(0, 2, 60),
        rng.integers(1, 99, 60),
        labels=("ham", HOSTILE),
        mistakes=(Mistake(0, HOSTILE, "ham", HOSTILE, 0.9),),
    )
    write_answers(storage, answers_key("job", "task", "adapter"), answers)
    storage.write("job/job.json", (json.dumps(SearchJob.parse(JOB).to_record(), indent=2) + "\n").encode())
    return storage


def files_of(place, **options):
    with opened(place.path("")) as record:
        return job_files(record.studies("job"), place, **options)


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.text, self.levels = [], [], "", []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.levels.append(int(tag[1]))

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def test_the_page_needs_nothing_from_elsewhere_runs_nothing_and_shows_hostile_text(place):
    page = Page(files_of(place)[PAGE].decode())
    names = {tag for tag, _ in page.tags}
    assert not {"script", "link", "iframe", "object", "embed", "img", "image", "use"} & names
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        assert attributes.get("href", "#").startswith("#")
    assert "url(" not in page.text
    assert page.text.count(HOSTILE) >= 3  # a class, a mistake, a trial that failed


def test_the_page_can_be_walked_through_without_a_mouse_and_without_seeing_it(place):
    page = Page(files_of(place)[PAGE].decode())
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {one["href"][1:] for one in page.all("a")} <= set(ids)
    assert {one["aria-labelledby"] for one in page.all("section")} <= set(ids)
    assert all(one.get("scope") for one in page.all("th"))
    assert all(one["role"] == "img" and one["aria-label"] for one in page.all("svg"))
    assert all(one["tabindex"] == "0" for one in page.all("div") if one.get("class") == "wide")
    assert page.levels[0] == 1
    assert all(after - before <= 1 for before, after in zip(page.levels, page.levels[1:], strict=False))


def test_the_page_is_in_the_order_in_which_it_is_asked(place):
    text = Page(files_of(place)[PAGE].decode()).text
    titles = [
        "Leaderboard",
        "Best so far",
        "Which parameter mattered",
        "Learning curves",
        "The winner on the test set",
        "What it cost",
        "Data",
        "What to try next",
    ]
    places = [text.rindex(f"{title}\n") if title != "Data" else text.rindex("Data\n") for title in titles]
    assert places == sorted(places)


def test_the_same_record_gives_the_same_bytes_and_its_figures_as_files(place):
    files = files_of(place, figures=True)
    assert files == files_of(place, figures=True)
    drawings = {name for name in files if name.endswith(".svg")}
    assert {"best_by_trial.svg", "learning_curves.svg", "parallel.svg", "calibration.svg"} <= drawings
    assert files.keys() - drawings == {PAGE}


def test_a_job_without_what_it_answered_has_its_page_all_the_same(place):
    place.delete(answers_key("job", "task", "adapter"))
    assert "was not kept" in Page(files_of(place)[PAGE].decode()).text


def test_a_record_of_before_has_its_page_too(tmp_path):
    with opened(tmp_path) as record:
        add(create(record), [0.5])
        text = Page(job_files(record.studies("job"), Storage(str(tmp_path)))[PAGE].decode()).text
    assert "not finished" in text
    assert "cannot be read here" in text


def test_a_job_without_a_trial_is_refused_with_what_to_do(tmp_path):
    with opened(tmp_path) as record:
        create(record)
        with pytest.raises(UserError, match=r"no trial yet.*adaptune resume job"):
            job_files(record.studies("job"), Storage(str(tmp_path)))


def advice_of(place):
    with opened(place.path("")) as record:
        return steps([view_of(study, place) for study in record.studies("job")], "job", place)


def test_each_job_that_is_advised_is_this_one_with_one_change(place, tmp_path):
    """The commands are run by a shell as they are printed, up to the check that they end with."""
    changes = {
        "job-all-rows": lambda job: job.tasks[0].limit.train is None,
        "job-seeds": lambda job: (job.confirm.budget, job.confirm.counted) == (0.25, False),
        "job-more-trials": lambda job: job.search.trials == 12,
        "job-encoder": lambda job: job.backbone == "bert-base-uncased",
    }
    made = [step.command for step in advice_of(place) if step.command.startswith("sed")]
    for command in made:
        subprocess.run(command.splitlines()[0], shell=True, check=True, cwd=tmp_path)  # noqa: S602
    assert {path.stem for path in tmp_path.glob("*.json")} == changes.keys()
    for name, has_changed in changes.items():
        job = SearchJob.load(tmp_path / f"{name}.json")
        assert job.name == name
        assert has_changed(job)


def test_an_unfinished_search_is_to_be_gone_on_with_first(tmp_path):
    with opened(tmp_path) as record:
        add(create(record), [0.5])
    first, *_ = advice_of(Storage(str(tmp_path)))
    assert "adaptune resume job --storage" in first.command
