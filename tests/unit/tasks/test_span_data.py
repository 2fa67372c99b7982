import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import InputError, InputErrors
from pipelines.tasks.registry import registered_task
from pipelines.tasks.rows import read_task
from pipelines.tasks.span_rows import SQUAD_SCHEMA
from pipelines.tasks.task import Files, Hub, SplitRule, Task

MANIFEST_DATA = Path(__file__).parents[3] / "../shared/data"


def row(number, *, article="A", answer="two", start=4, **changes):
    return {
        "id": f"q{number}",
        "title": article,
        "context": "one two three",
        "question": f"Which is {number}?",
        "answers_text": [answer],
        "answer_starts": [start],
        **changes,
    }


def rows(count, articles=5, **changes):
    return [row(number, article=f"A{number % articles}", **changes) for number in range(count)]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(content, schema=SQUAD_SCHEMA), path)
    return path


def task_of(tmp_path, **splits):
    paths = {name: str(write(tmp_path / f"{name}.parquet", content)) for name, content in splits.items()}
    return Task(
        name="faq", text=("question", "context"), label="answers_text", kind="span", files=Files(**paths)
    )


def test_a_missing_split_is_cut_from_train_by_whole_articles(tmp_path):
    data = read_task(task_of(tmp_path, train=rows(100, articles=20)), split=SplitRule(seed=3))
    titles = [{one.title for one in split} for split in (data.train, data.validation, data.test)]
    assert [len(split) for split in (data.train, data.validation, data.test)] == [80, 10, 10]
    assert not titles[0] & titles[1] | titles[0] & titles[2] | titles[1] & titles[2]
    assert data.notes == (
        "test: 10 of 100 rows cut from train (seed 3, by article)",
        "validation: 10 of 100 rows cut from train (seed 3, by article)",
    )


def test_answers_not_in_their_context_are_counted_and_leave_training_only(tmp_path):
    wrong = [row(90, answer="four", start=4), row(91, answer="two", start=5)]
    both = row(92, answers_text=["two", "2"], answer_starts=[4, 4])
    splits = {"train": [*rows(10), *wrong, both], "validation": [*rows(3), *wrong], "test": rows(3)}
    data = read_task(task_of(tmp_path, **splits))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [11, 5, 3]
    assert data.notes == (
        "train: 3 answers are not where they are said to be in their context",
        "train: 2 of 13 questions left out: none of their answers is",
        "validation: 2 answers are not where they are said to be in their context",
        "train: 3 of 11 rows are in validation again, word for word",
        "train: 3 of 11 rows are in test again, word for word",
    )
    assert data.train[-1].places == ((4, 7),)


def test_a_limit_keeps_a_seeded_sample_in_order(tmp_path):
    task = task_of(tmp_path, train=rows(50), validation=rows(9), test=rows(9))
    task = Task(**{**vars(task), "limit": {"train": 7}})
    ids = [one.id for one in read_task(task).train]
    assert len(ids) == 7
    assert ids == sorted(ids, key=lambda one: int(one[1:]))
    assert ids == [one.id for one in read_task(task).train]


def test_the_fingerprint_is_that_of_the_rows(tmp_path):
    one, same, other = (
        read_task(task_of(tmp_path / name, train=content, validation=rows(3), test=rows(3))).fingerprint
        for name, content in (("a", rows(9)), ("b", rows(9)), ("c", rows(9, answer="one", start=0)))
    )
    assert one == same != other


@pytest.mark.integration
def test_squad_s_own_json_and_the_hub_s_columns_are_read_alike(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    content = rows(6)
    question = [
        {
            "id": one["id"],
            "question": one["question"],
            "answers": [{"text": "two", "answer_start": 4}],
        }
        for one in content
    ]
    articles = [
        {"title": one["title"], "paragraphs": [{"context": one["context"], "qas": [asked]}]}
        for one, asked in zip(content, question, strict=True)
    ]
    (tmp_path / "hub").mkdir()
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps({"version": "1.1", "data": articles}))
        hub_rows = [
            {**{key: one[key] for key in ("id", "title", "context", "question")}}
            | {"answers": {"text": ["two"], "answer_start": [4]}}
            for one in content
        ]
        pq.write_table(pa.Table.from_pylist(hub_rows), tmp_path / "hub" / f"{split}.parquet")
    fields = {"name": "faq", "text": ("question", "context"), "label": "answers_text", "kind": "span"}
    files = Files(**{split: str(tmp_path / f"{split}.json") for split in ("train", "validation", "test")})
    found = [
        read_task(Task(**fields, files=files)),
        read_task(Task(**fields, hub=Hub(path=str(tmp_path / "hub")))),
        read_task(task_of(tmp_path / "p", train=content, validation=content, test=content)),
    ]
    assert len({data.fingerprint for data in found}) == 1


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"context": " "}, "1 of 3 questions have no context: row 3. Fill in or remove these rows."),
        ({"question": None}, "1 of 3 questions have no question: row 3"),
        ({"answers_text": [], "answer_starts": []}, "1 of 3 questions have no answer: row 3"),
        ({"answers_text": None}, "1 of 3 questions have no answer: row 3"),
        ({"answer_starts": []}, "1 of 3 questions have not one start for each answer: row 3"),
    ],
)
def test_a_question_that_cannot_be_used_is_refused_with_its_row(tmp_path, bad, said):
    task = task_of(tmp_path, train=[*rows(2), row(9, **bad)], validation=rows(2), test=rows(2))
    with pytest.raises(InputError) as caught:
        read_task(task)
    assert caught.value.key == "faq.files.train"
    assert said in str(caught.value)


def test_what_is_wrong_with_several_splits_is_reported_together(tmp_path):
    task = task_of(tmp_path, train=rows(4), validation=[row(1, context="")], test=[])
    with pytest.raises(InputErrors) as caught:
        read_task(task)
    assert [problem.key for problem in caught.value.problems] == ["faq.files.validation", "faq.files.test"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"x", "rows of a span task cannot be read from it. Give parquet, or SQuAD's JSON."),
        ("a.parquet", b"x", "is not valid parquet"),
        ("a.json", b'{"data": 3}', "is not in SQuAD's format"),
        ("a.json", b"{", "is not in SQuAD's format"),
        ("b.parquet", None, "no such file"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    files = Files(train=str(tmp_path / name))
    task = Task(name="faq", text=("question", "context"), label="answers_text", kind="span", files=files)
    with pytest.raises(InputError, match=said):
        read_task(task)


def test_a_table_of_other_columns_is_refused(tmp_path):
    pq.write_table(pa.table({"question": ["a"], "context": ["b"]}), tmp_path / "a.parquet")
    files = Files(train=str(tmp_path / "a.parquet"))
    task = Task(name="faq", text=("question", "context"), label="answers_text", kind="span", files=files)
    with pytest.raises(InputError, match="has no column 'answers_text', but 'question', 'context'"):
        read_task(task)


def test_one_article_cannot_be_cut(tmp_path):
    with pytest.raises(InputError, match="train's 1 articles are too few to cut any from"):
        read_task(task_of(tmp_path, train=rows(10, articles=1)))


def test_training_needs_an_answer_in_its_context(tmp_path):
    task = task_of(tmp_path, train=rows(5, start=1), validation=rows(2), test=rows(2))
    with pytest.raises(InputError, match=r"no answer is in its context\. Check answer_starts"):
        read_task(task)


@pytest.mark.integration
def test_the_shared_squad_has_its_manifest_s_sizes():
    if not (MANIFEST_DATA / "squad_v1").is_dir():
        pytest.skip("the shared data sets are not on this machine")
    data = read_task(registered_task("squad_v1"), data_dir=str(MANIFEST_DATA))
    assert len(data.train) + len(data.test) == 8378
    assert len(data.validation) == 2192
    assert all(one.places for one in (*data.train, *data.validation, *data.test))


# Cells that hold something else


def read_train(path):
    files = Files(train=str(path))
    return read_task(
        Task(name="faq", text=("question", "context"), label="answers_text", kind="span", files=files)
    )


def read_columns(path, count, **changes):
    columns = {name: [one[name] for one in rows(count)] for name in SQUAD_SCHEMA.names}
    pq.write_table(pa.table({**columns, **changes}), path / "train.parquet")
    return read_train(path / "train.parquet")


@pytest.mark.parametrize("name", ["answers_text", "answer_starts"])
def test_a_list_with_a_nan_in_it_names_its_row(tmp_path, name):
    numbers = pa.array([[4.0], [4.0], [float("nan")]], pa.list_(pa.float64()))
    with pytest.raises(InputError, match=f"{name} that is no list of (texts: row 1|whole numbers: row 3)"):
        read_columns(tmp_path, 3, **{name: numbers})


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("context", [1, 2, 3, 4, 5], "5 of 5 questions have a context that is no text: row 1, 2, 3, 4, 5"),
        ("question", [0.5] * 5, "5 of 5 questions have a question that is no text: row 1, 2, 3, 4, 5"),
        ("question", [["x"]] * 5, "5 of 5 questions have a question that is no text"),
        ("answers_text", ["two"] * 5, "5 of 5 questions have answers_text that is no list of texts: row 1"),
        ("answers_text", [2.0, 2.0, float("nan"), 2.0, 2.0], "answers_text that is no list of texts: row 1"),
        ("answers_text", [[2]] * 5, "5 of 5 questions have answers_text that is no list of texts"),
        ("answer_starts", [4] * 5, "answer_starts that is no list of whole numbers: row 1"),
        ("answer_starts", [["4"]] * 5, "answer_starts that is no list of whole numbers"),
        ("answer_starts", [[4], [4], [4.5], [4], [4]], "1 of 5 questions have answer_starts that is no list"),
        ("context", [True] * 5, "a context that is no text"),
    ],
)
def test_a_column_of_another_type_names_the_first_rows(tmp_path, name, values, message):
    with pytest.raises(InputError) as caught:
        read_columns(tmp_path, 5, **{name: values})
    assert caught.value.key == "faq.files.train"
    assert message in caught.value.rule


def test_whole_numbers_that_pandas_wrote_as_floats_are_starts(tmp_path):
    assert read_columns(tmp_path, 20, answer_starts=[[4.0]] * 20).train[0].starts == (4,)


@pytest.mark.parametrize("where", ["context", "question", "answer"])
def test_half_a_character_in_squad_s_json_names_its_row(tmp_path, where):
    half = {
        name: "\ud83d" if name == where else "one two three" for name in ("context", "question", "answer")
    }
    asked = {
        "id": "1",
        "question": half["question"],
        "answers": [{"text": half["answer"], "answer_start": 0}],
    }
    articles = [{"title": "A", "paragraphs": [{"context": half["context"], "qas": [asked]}]}]
    (tmp_path / "train.json").write_text(json.dumps({"data": articles}))
    with pytest.raises(
        InputError, match=r"1 of 1 questions have half a character \(a lone surrogate\): row 1"
    ):
        read_train(tmp_path / "train.json")


def test_deep_json_is_not_squad_s(tmp_path):
    (tmp_path / "train.json").write_text("[" * 20_000 + "]" * 20_000)
    with pytest.raises(InputError, match="is not in SQuAD's format"):
        read_train(tmp_path / "train.json")


@pytest.mark.integration
def test_contexts_that_unpack_to_gigabytes_are_refused(tmp_path):
    indices = pa.array([0] * 10_000, pa.int32())
    long = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * 600_000]))
    with pytest.raises(InputError, match=r"unpacks to 6.0 GB or more, over the 2 GB of one table"):
        read_columns(tmp_path, 10_000, context=long)


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1" * 40, b""])
def test_a_file_that_is_no_parquet_is_refused(tmp_path, content):
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(InputError, match="is not valid parquet"):
        read_train(tmp_path / "train.parquet")


def test_parquet_with_a_footer_that_is_damaged_is_refused(tmp_path):
    path = write(tmp_path / "train.parquet", rows(5))
    data = bytearray(path.read_bytes())
    data[-60:-12] = b"\xff" * 48
    path.write_bytes(data)
    with pytest.raises(InputError, match="is not valid parquet"):
        read_train(path)
