"""When two jobs are the same, and the schema that describes them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_files import LEAST, OWN, job

from search.errors import JobError
from search.job.job import SearchJob, differences, job_schema
from spaces import preset

# Identity


def test_a_job_is_the_same_after_json(tmp_path):
    made = SearchJob.parse(
        {**LEAST, "tasks": ["glue_cola", OWN], "space": "glue", "resources": {"gpus": 0.5, "concurrent": 2}},
        folder=tmp_path,
    )
    written = json.dumps(made.to_dict(), allow_nan=False)
    assert SearchJob.from_dict(json.loads(written)) == made


def test_reading_a_job_back_does_not_look_at_folders(tmp_path, monkeypatch):
    made = job()
    (tmp_path / "bert-base-uncased").mkdir()
    monkeypatch.chdir(tmp_path)
    assert SearchJob.from_dict(made.to_dict()).backbone == "bert-base-uncased"


@pytest.mark.parametrize(
    "changes",
    [
        {"resources": {"cpus": 2}},
        {"storage": "elsewhere"},
        {"database": "postgresql://host/studies"},
        {"tracking": {"experiment": "other"}},
        {"data_dir": "data"},
        {"baseline": "none"},
        {"refit": False},
        {"confirm": "none"},
        {"confirm": None},
        {"confirm": {"budget": 1.5, "export": "best"}},
        {"split": {"folds": None, "group": None}},
        {"space": preset("default").to_dict()},
        {"method": ["adapter"]},
        {"tasks": [{"name": "glue_cola", "hub": "copy/of-cola", "metric": "matthews"}]},
    ],
)
def test_the_fingerprint_leaves_out_where_a_job_runs_and_how_it_is_written(changes):
    assert job(**changes).fingerprint() == job().fingerprint()
    assert differences(job().content(), job(**changes).content()) == []


def test_the_fingerprint_leaves_out_data_paths(tmp_path):
    here, there = (
        SearchJob.parse({**LEAST, "tasks": [OWN]}, folder=tmp_path / name) for name in ("here", "there")
    )
    assert here.resolved_tasks() != there.resolved_tasks()
    assert here.fingerprint() == there.fingerprint()


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"name": "other"}, 'name: "tickets" -> "other"'),
        ({"search": {"trials": 30}}, "search.trials: 18 -> 30"),
        ({"max_tokens": 64}, "max_tokens: 128 -> 64"),
        ({"refit": True}, "refit: (absent) -> true"),
        ({"confirm": {"top": 3, "seeds": 2}}, "confirm.seeds: (absent) -> 2"),
        ({"split": {"folds": 5}}, "split.folds: (absent) -> 5"),
        ({"split": {"folds": 5}}, "refit: (absent) -> true"),
        ({"split": {"group": "author"}}, 'split.group: (absent) -> "author"'),
        (
            {"tasks": [{"name": "glue_cola", "metric": "accuracy"}]},
            'tasks[0].metric: "matthews" -> "accuracy"',
        ),
        (
            {"tasks": [{"name": "glue_cola", "limit": {"train": 9}}]},
            "tasks[0].limit.train: (absent) -> 9",
        ),
        ({"space": {**preset("default").to_dict(), "epochs": 3}}, "space.adapter.epochs: [3, 10, 20] -> [3]"),
    ],
)
def test_a_job_with_other_content_has_another_fingerprint_and_says_why(changes, difference):
    assert job(**changes).fingerprint() != job().fingerprint()
    assert difference in differences(job().content(), job(**changes).content())


def test_a_job_without_folds_and_refit_is_what_it_was_before_there_were_any():
    content = job().content()
    assert content["split"] == {"validation": 0.1, "test": 0.1, "seed": 0}
    assert not {"refit", "group"} & {*content, *content["tasks"][0]}


def test_a_job_that_confirms_leaders_has_the_content_of_one_of_before_there_were_any():
    assert job().content()["confirm"] is None
    assert job(confirm={"top": 1, "seeds": 2}).content()["confirm"] == {"top": 1, "seeds": 2}


def test_leaders_are_confirmed_by_default_and_a_word_or_a_part_of_a_mapping_is_enough():
    assert job().confirm == job(confirm="auto").confirm == job(confirm={}).confirm
    assert (job().confirm.budget, job().confirm.export, job().confirm.counted) == (0.25, "nearest", False)
    assert job(confirm={"export": "best"}).confirm.budget == 0.25
    assert job(confirm="none").confirm is job(confirm=None).confirm is None
    three = job(confirm={"top": 3}).confirm
    assert (three.top, three.seeds, three.budget, three.export) == (3, 5, None, None)
    assert job(confirm={"seeds": 2}).confirm.top == 1


@pytest.mark.parametrize("confirm", ["auto", "none", {"budget": 1}, {"top": 2}, {"export": "best"}])
def test_how_leaders_are_confirmed_is_the_same_after_json(confirm):
    made = job(confirm=confirm)
    assert SearchJob.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert JSON_SCHEMA.Draft202012Validator(job_schema()).is_valid({**LEAST, "confirm": confirm})


def test_folds_need_a_refit_which_they_bring_along():
    assert job(split={"folds": 5}).refits
    assert job(refit=True).refits
    assert not job().refits
    with pytest.raises(JobError) as caught:
        job(split={"folds": 5}, refit=False)
    assert "refit = False: split.folds leaves a model for each fold" in str(caught.value)
    assert "Leave refit out, or split.folds." in str(caught.value)


SECTIONS = st.sampled_from(["name", "tasks", "space", "search", "split", "resources", "tracking", "method"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab/.", max_size=9) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "files", "train", "text", "seed", "trials", "epochs", "low", "adapter"]),
            inner,
        )
    ),
    max_leaves=8,
)


@pytest.mark.integration
@given(st.dictionaries(SECTIONS, ANYTHING))
def test_whatever_is_written_is_a_job_or_a_job_error(changes):
    try:
        made = job(**changes)
    except JobError:
        return
    assert SearchJob.from_dict(made.to_dict()) == made


# The schema


def described(schema):
    yield from schema.get("properties", {}).items()
    for name, definition in schema["$defs"].items():
        if name.endswith("Part") or name == "Space":
            yield from definition["properties"].items()


def test_the_schema_describes_every_key():
    fields = list(described(job_schema()))
    assert len(fields) > 40
    assert [key for key, field in fields if not field.get("description")] == []


def test_the_schema_is_json_and_names_presets_and_samplers():
    text = json.dumps(job_schema())
    for word in ("glue", "default", "tpe", "gp", "adapter_size", "matthews"):
        assert f'"{word}"' in text


def test_the_schema_is_small_enough_for_an_editor():
    assert len(json.dumps(job_schema(), indent=2)) < 200_000


JSON_SCHEMA = pytest.importorskip("jsonschema", reason="comes with Ray")


def test_the_schema_accepts_what_the_loader_accepts_and_refuses_typos():
    validator = JSON_SCHEMA.Draft202012Validator(job_schema())
    tasks = ["glue_cola", {**OWN, "text": ["a", "b"], "hub": None, "limit": {"train": 3}}]
    written = {**LEAST, "tasks": tasks, "space": "glue", "resources": {"concurrent": "auto"}}
    assert validator.is_valid(written)
    assert validator.is_valid(job().to_dict())
    assert validator.is_valid({**LEAST, "space": {"epochs": [3], "dropout": {"low": 0, "high": 0.1}}})
    when = {"fine_tune_embedding": [True], "adapter_size": {"above": 8}}
    spaces = {"adapter": "glue", "embeddings": {"learning_rate": {"low": 1e-4, "high": 0.1, "when": when}}}
    assert validator.is_valid({**LEAST, "space": spaces})
    for changes in (
        {"sampelr": 1},
        {"space": "gleu"},
        {"space": {"epoch": 3}},
        {"space": {"epochs": {"values": [3], "when": {"adapter": 8}}}},
        {"space": {"embeddings": {"epoch": 3}}},
        {"search": {"trials": 0}},
        {"tasks": []},
    ):
        assert not validator.is_valid({**LEAST, **changes})
