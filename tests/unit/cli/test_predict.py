"""What `adaptune predict` reads and writes."""

import io
import json
import shlex
import sys
from pathlib import Path

import pytest

from pipelines.bundle import Prediction
from pipelines.errors import InputError
from search.cli import app as cli
from search.cli.predict import prediction_lines, read_rows
from search.commands import predict_command
from search.errors import UserError
from search.job.job import SearchJob

ONE, PAIR = ("body",), ("premise", "hypothesis")


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def typed(monkeypatch):
    """Standard input with these bytes."""

    def write(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))
        return Path("-")

    return write


@pytest.fixture
def adaptune(monkeypatch, capsys, tmp_path):
    """Run the command in this process; (exit code, errors)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["adaptune", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().err

    return run


def test_texts_of_the_command_line_are_taken_as_they_are():
    assert read_rows(["a b", "[x]\n"], None, ONE) == ["a b", "[x]\n"]


@pytest.mark.parametrize("texts", [[], ["a"]])
def test_either_texts_or_a_file_is_needed_and_not_both(texts, write):
    with pytest.raises(UserError, match="one of the two"):
        read_rows(texts, write("in.txt", "a\n") if texts else None, ONE)


def test_pairs_come_by_file_and_the_columns_are_named():
    with pytest.raises(UserError, match="'premise' and 'hypothesis'"):
        read_rows(["a"], None, PAIR)


def test_an_empty_text_is_refused():
    with pytest.raises(UserError, match="empty"):
        read_rows(["a", " "], None, ONE)


def test_a_txt_file_is_a_text_a_line(write):
    assert read_rows([], write("in.txt", "first\nsecond one\n"), ONE) == ["first", "second one"]
    assert read_rows([], write("in.TXT", "first\r\nlast, without an end"), ONE) == [
        "first",
        "last, without an end",
    ]


def test_only_a_line_end_ends_a_line(write):
    # str.splitlines would cut at each of these.
    texts = ["page one\x0cpage two", "a\u2028b", "a\x85b", "a\x1cb"]
    assert read_rows([], write("in.txt", "\n".join(texts)), ONE) == texts


def test_a_byte_order_mark_is_no_part_of_the_first_text(write):
    assert read_rows([], write("in.txt", b"\xef\xbb\xbffirst\n"), ONE) == ["first"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.txt", "a\n\nb\n", "row 2 has an empty text"),
        ("in.csv", "body\na\n  \n", "row 2 has an empty text"),
        ("in.jsonl", '{"body": "a"}\n{"body": null}\n', "row 2 has an empty text"),
        ("in.jsonl", '{"body": "a"}\n{"body": "\\ud83d"}\n', "row 2 has half a character"),
        ("in.txt", "", "no rows"),
        ("in.txt", b"caf\xe9\n", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_predicted_says_why(write, name, content, message):
    path = write(name, content)
    with pytest.raises(UserError, match=message) as error:
        read_rows([], path, ONE)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["nothing.txt", "nothing.csv"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises((UserError, InputError), match="no such file"):
        read_rows([], tmp_path / name, ONE)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.csv", 'id,body\n1,"a, b"\n2,c\n'),
        ("in.tsv", "id\tbody\n1\ta, b\n2\tc\n"),
        ("in.jsonl", '{"id": 1, "body": "a, b"}\n{"id": 2, "body": "c"}\n'),
    ],
)
def test_a_table_gives_its_text_column(write, name, content):
    assert read_rows([], write(name, content), ONE) == ["a, b", "c"]


def test_a_table_gives_pairs_in_the_order_of_the_bundles_columns(write):
    path = write("in.csv", "hypothesis,premise\nh1,p1\nh2,p2\n")
    assert read_rows([], path, PAIR) == [("p1", "h1"), ("p2", "h2")]


def test_a_table_without_the_column_is_refused_with_the_nearest(write):
    with pytest.raises(InputError, match="Did you mean 'boddy'"):
        read_rows([], write("in.csv", "boddy\na\n"), ONE)


def test_a_prediction_is_one_line_of_json():
    lines = prediction_lines(
        [
            Prediction("über\nzwei Zeilen", "yes", {"no": 0.25, "yes": 0.75}),
            Prediction(("a", "b"), 2.5, {}),
        ]
    )
    assert [json.loads(line) for line in lines] == [
        {"text": "über\nzwei Zeilen", "label": "yes", "scores": {"no": 0.25, "yes": 0.75}},
        {"text": ["a", "b"], "label": 2.5, "scores": {}},
    ]
    assert all("\n" not in line for line in lines)
    assert "über" in lines[0]


def test_standard_input_is_a_text_a_line_in_utf_8_whatever_the_locale(typed):
    assert read_rows([], typed("über\r\n-5 degrees\n".encode()), ONE) == ["über", "-5 degrees"]


def test_pairs_on_standard_input_are_json_lines(typed):
    lines = b'{"hypothesis": "h", "premise": "p", "id": 1}\n{"premise": "p2", "hypothesis": "h2"}\n'
    assert read_rows([], typed(lines), PAIR) == [("p", "h"), ("p2", "h2")]


@pytest.mark.parametrize(
    "line", [b"p and h", b"[1]", b'{"premise": "p"}', b'{"premise": "p", "hypothesis": 1}', b"[" * 100_000]
)
def test_a_pair_that_is_none_is_refused_with_its_line_and_an_example(typed, line):
    with pytest.raises(UserError, match=r'line 2 is not like {"premise": "…", "hypothesis": "…"}') as caught:
        read_rows([], typed(b'{"premise": "p", "hypothesis": "h"}\n' + line + b"\n"), PAIR)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "no rows"), (b"a\n\n", "row 2 has an empty text"), (b"\xff\n", "not UTF-8")]
)
def test_standard_input_that_cannot_be_predicted_says_why(typed, content, said):
    with pytest.raises(UserError, match=f"standard input: .*{said}"):
        read_rows([], typed(content), ONE)


def test_an_argument_that_is_not_utf_8_is_refused():
    with pytest.raises(UserError, match="Text 2 is not UTF-8"):
        read_rows(["a", b"\xff".decode("utf-8", "surrogateescape")], None, ONE)


def test_a_text_like_an_option_is_told_to_come_after_two_dashes(adaptune):
    code, said = adaptune("predict", "bundle", "-5 degrees")
    assert code == 2
    assert "A text that begins with '-' comes after '--'" in " ".join(said.split())
    assert "is not a whole bundle" in adaptune("predict", "bundle", "--", "-5 degrees")[1]


@pytest.mark.parametrize("folder", ["nowhere", "file"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(adaptune, tmp_path, monkeypatch, folder):
    monkeypatch.setattr("pipelines.bundle.AdapterBundle.load", lambda *_, **__: pytest.fail("it was loaded"))
    (tmp_path / "file").touch()
    code, said = adaptune("predict", "bundle", "text", "--output", f"{folder}/out.jsonl")
    assert code == 2
    assert said == f"{folder} is no folder. Make it, or choose another --output.\n"


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        ({"name": "t", "files": {"train": "/x.csv"}}, ONE),
        ({"name": "t", "files": {"train": "/x.csv"}, "text": list(PAIR)}, PAIR),
        ({"name": "t", "files": {"train": "/x.jsonl"}, "kind": "span"}, ("question", "context")),
        ({"name": "glue_mrpc"}, ("text_a", "text_b")),
        ({"name": "squad_v1"}, ("question", "context")),
    ],
)
def test_the_predict_that_is_printed_at_the_end_can_be_typed(task, columns, typed):
    job = SearchJob.parse({"name": "job", "backbone": "encoder", "data_dir": "/data", "tasks": [task]})
    (one,) = job.resolved_tasks()
    words = shlex.split(predict_command("bundle", one.kind, one.text))
    if len(columns) == 1:
        assert words[1:] == ["predict", "bundle", "some text"]
        return
    assert (words[0], words[2], words[4:]) == ("echo", "|", ["predict", "bundle"])
    (row,) = read_rows([], typed(words[1].encode() + b"\n"), columns)
    assert len(row) == 2
