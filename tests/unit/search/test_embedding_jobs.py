"""What a job file says of the method `embeddings`, and what becomes of it before anything starts."""

import io
from dataclasses import replace

import pytest
from job_files import job
from rich.console import Console
from ruamel.yaml import YAML
from studies import opened
from tiny import D, save_tiny_encoder, toy_spans, vocabulary, write_spans

from pipelines.methods import EMBEDDINGS
from search.cli.check import print_plan
from search.cluster.staging import stage
from search.errors import JobError, UserError
from search.experience import gather
from search.job.job import SearchJob
from search.plan import make_plan, searched_values
from search.record import Winner
from search.runner import open_studies
from search.storage import Storage
from spaces import preset

WORDS = len(vocabulary())


@pytest.fixture
def folder(tmp_path):
    """A folder with an encoder, a task and word vectors."""
    save_tiny_encoder(tmp_path / "encoder")
    rows = [f"good {row},yes" if row % 2 else f"bad {row},no" for row in range(40)]
    (tmp_path / "mine.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    (tmp_path / "glove.txt").write_text("good 1 0 0\nbad 0 1 0\n")
    return tmp_path


def content(**changes):
    return {
        "name": "job",
        "backbone": "encoder",
        "tasks": [{"name": "mine", "files": {"train": "mine.csv"}}],
        "max_tokens": 16,
        "method": "embeddings",
        "space": {"hidden_size": [4], "training_samples": [600]},
        **changes,
    }


def load(folder, **changes):
    raw = {"storage": str(folder / "runs"), **content(**changes)}
    return SearchJob.parse(raw, source="job.yaml", folder=folder)


def message(make):
    with pytest.raises(JobError) as caught:
        make()
    return str(caught.value)


# The job file


def test_without_a_space_a_small_one_is_searched():
    assert job(method="embeddings").space_for("embeddings") == preset("default_embeddings")
    both = job(method=["adapter", "embeddings"])
    assert both.space_for("adapter") == preset("default")
    assert both.space_for("embeddings") == preset("default_embeddings")


def test_each_method_of_a_job_has_a_space_of_its_own():
    made = job(method=["adapter", "embeddings"], space={"adapter": "glue", "embeddings": "no_bert"})
    assert made.space_for("adapter") == preset("glue")
    assert made.space_for("embeddings") == preset("no_bert")
    assert SearchJob.from_dict(made.to_dict()) == made


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"space": {"learning_rate": [1e-3]}},
            "space.learning_rate = [0.001]: the method embeddings has no such parameter. It is for adapter, ",
        ),
        ({"space": {"adapter_size": 8}}, "space.adapter_size = [8]: the method embeddings has no such"),
        (
            {"method": "adapter", "space": {"hidden_size": 8}},
            "space.hidden_size = [8]: the method adapter has no such parameter. It is for embeddings.",
        ),
        (
            {"space": {"embedding": ["glov"]}, "vectors": {"glove": "glove.txt"}},
            "space.embedding = 'glov': no such embedding. Did you mean 'glove'?",
        ),
        (
            {"space": {"embedding": "sentence"}, "vectors": {"glove": "glove.txt"}},
            "space.embedding = ['sentence']: lacks the job's vectors 'glove'. Add it, or take it out",
        ),
        (
            {"method": "adapter", "vectors": {"glove": "glove.txt"}},
            "the method embeddings alone reads word vectors",
        ),
        ({"vectors": {"sentence": "x.txt"}}, "is the encoder's own embedding. Give the file another name."),
        ({"vectors": {"../x": "x.txt"}}, "cannot be a name"),
        (
            {"resources": {"gpus": 1}},
            "resources.pack = 'auto': trials of the method embeddings train alone, on CPU cores, and never "
            "in a pack. Write pack: 1,",
        ),
        ({"method": ["adapter", "embeddings"], "resources": {"pack": 4}}, "resources.pack = 4: trials of"),
    ],
)
def test_what_makes_no_sense_with_embeddings_is_refused(changes, expected):
    assert expected in message(lambda: job(**{"method": "embeddings", **changes}))


def test_a_job_on_a_gpu_takes_embeddings_without_packs():
    assert not job(method="embeddings", resources={"gpus": 1, "pack": 1}).resources.packed


@pytest.mark.parametrize("space", ["no_bert", "default", {"embeddings": "no_bert"}])
def test_vectors_are_searched_beside_a_presets_embeddings(space):
    made = job(method="embeddings", space=space, vectors={"glove": "/g.txt"})
    found = made.space_for("embeddings")
    assert found.values("embedding")[-1] == "glove"
    if space != "default":
        assert found.exists("convolution", {"embedding": "glove"})
        assert not found.exists("convolution", {"embedding": "sentence"})
    assert SearchJob.from_dict(made.to_dict()) == made


def test_where_vectors_lie_does_not_make_another_job(folder):
    one, other = (load(folder, vectors={"glove": name}, space="no_bert") for name in ("a.txt", "b.txt"))
    assert one.vectors == {"glove": str(folder / "a.txt")}
    assert one.content() == other.content()


# The plan


def test_everything_wrong_with_vectors_and_tasks_is_told_at_once(folder):
    (folder / "bad.txt").write_text("good 1 2\nbad 1\n")
    vectors = {"one": "bad.txt", "two": "gone.txt"}
    tasks = [{"name": "gone", "files": {"train": "gone.csv"}}]
    told = message(lambda: make_plan(load(folder, vectors=vectors, space="no_bert", tasks=tasks)))
    assert "vectors.one = " in told
    assert "line 2: needs a word and 2 numbers" in told
    assert "vectors.two = " in told
    assert "gone.files.train" in told


def test_span_tasks_are_refused(folder):
    write_spans(folder / "spans.json", toy_spans().train)
    spans = {"name": "spans", "kind": "span", "files": {"train": "spans.json"}}
    told = message(lambda: make_plan(load(folder, tasks=[spans], max_tokens=64)))
    assert "method = 'embeddings': task 'spans' asks for spans" in told


def test_a_convolution_over_sentence_vectors_is_refused_with_what_to_write(folder):
    space = {"embedding": ["token_table", "sentence"], "convolution": [True, False]}
    told = message(lambda: make_plan(load(folder, space=space)))
    assert "space.convolution = True: the embedding `sentence` is one frozen vector of a text." in told
    assert "when: {embedding: token_table}" in told
    fixed = {**space, "convolution": {"values": [True, False], "when": {"embedding": "token_table"}}}
    assert make_plan(load(folder, space=fixed)).tasks


def test_the_fewest_and_the_most_trained_parameters_are_those_of_the_corners(folder):
    space = {
        "hidden_layers": [0, 1, 3],
        "hidden_size": {"values": [4, 6, 8], "when": {"hidden_layers": {"above": 0}}},
        "training_samples": [600],
    }
    plan = make_plan(load(folder, space=space))
    linear = 2 * WORDS + 2 * D + 2
    deep = 2 * WORDS + (D * 8 + 8) + 2 * (8 * 8 + 8) + 2 * 8 + 2
    least = min(linear, 2 * WORDS + D * 4 + 4 + 2 * 4 + 2)
    assert plan.trained_parameters("embeddings", 2) == (least, deep)


def test_a_limit_of_trained_parameters_holds_for_towers(folder):
    space = {"hidden_layers": [0, 1], "hidden_size": [64], "training_samples": [600]}
    limit = 2 * WORDS + 2 * D + 2
    plan = make_plan(load(folder, space=space, search={"max_trained_parameters": limit}))
    assert plan.allows("mine", "embeddings", {"hidden_layers": 0})
    assert not plan.allows("mine", "embeddings", {"hidden_layers": 1, "hidden_size": 64})
    told = message(lambda: make_plan(load(folder, space=space, search={"max_trained_parameters": limit - 1})))
    assert "mine/embeddings: the smallest configuration trains" in told


def test_check_tells_of_vectors_and_towers(folder):
    plan = make_plan(load(folder, vectors={"glove": "glove.txt"}, space="no_bert"))
    console = Console(width=200, record=True, file=io.StringIO())
    print_plan(plan, console)
    told = console.export_text()
    assert "vectors glove: 2 words, 3 numbers each" in told
    assert "embeddings: 18 trials of" in told


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"lowercase": [True, False]}, {(True, False), (False, False)}),
        ({"strip_non_alphanumerics": True, "lowercase": False}, {(False, True)}),
        ({"hidden_size": 8}, {(True, False)}),
        (
            {
                "hidden_layers": [0, 1],
                "lowercase": {"values": [False], "when": {"hidden_layers": 1}},
            },
            {(True, False), (False, False)},
        ),
    ],
)
def test_the_readings_of_a_space_are_those_that_its_trials_may_have(space, expected):
    searched = searched_values(job(method="embeddings", space=space).space_for("embeddings"))
    assert EMBEDDINGS.readings(searched) == expected


# The record


def test_a_job_goes_on_with_the_same_vectors_only(folder):
    made = load(folder, vectors={"glove": "glove.txt"}, space="no_bert")
    storage = Storage(made.storage)
    with opened(folder / "runs") as record:
        (study,) = open_studies(record, storage, make_plan(made))
        assert study.method == "embeddings"
        (folder / "moved.txt").write_text((folder / "glove.txt").read_text())
        moved = load(folder, vectors={"glove": "moved.txt"}, space="no_bert")
        open_studies(record, storage, make_plan(moved))
        (folder / "glove.txt").write_text("good 1 0 0\nbad 0 2 0\n")
        with pytest.raises(UserError, match="the word vectors under `vectors` are not those"):
            open_studies(record, storage, make_plan(made))


def test_experience_is_of_the_same_vectors_only(folder):
    made = load(folder, vectors={"glove": "glove.txt"}, space="no_bert")
    plan = make_plan(made)
    with opened(folder / "runs") as record:
        (study,) = open_studies(record, Storage(made.storage), plan)
        study.finish(Winner(trial=0, metric="accuracy", validation=0.5, test={}, bundle="b"))
        other = made.model_copy(update={"name": "other"})

        def learned(vectors):
            fingerprint = plan.backbone.fingerprint
            return gather(record, other, "embeddings", fingerprint=fingerprint, vectors=vectors).studies

        assert learned(plan.vector_fingerprints) == ("job/mine/embeddings",)
        assert learned({"glove": "another"}) == ()


def test_a_trial_of_embeddings_has_six_epochs(folder):
    made = load(folder)
    with opened(folder / "runs") as record:
        (study,) = open_studies(record, Storage(made.storage), make_plan(made))
        number = study.start_trial(
            {"hidden_size": 4, "training_samples": 600},
            made.space_for("embeddings").distributions(),
            seed=0,
        )
        assert study.trial(number).schedule == 6
        assert replace(study.trial(number), method="adapter").schedule == 20


def test_vectors_are_uploaded_with_a_submitted_job(folder):
    path = folder / "job.yaml"
    with path.open("w") as file:
        YAML().dump(content(storage="/mnt/runs", vectors={"glove": "glove.txt"}, space="no_bert"), file)
    staged = stage(path)
    name = "adaptune_data/vectors/glove/glove.txt"
    assert staged.uploads[name] == folder / "glove.txt"
    assert YAML(typ="safe", pure=True).load(staged.yaml)["vectors"] == {"glove": name}
