"""Labels that differ where nobody meant them to, and texts and labels that no encoding writes."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rows import ROWS, make

from pipelines.errors import InputError, InputErrors
from pipelines.tasks.rows import read_task
from pipelines.tasks.task import Files, Task


def rows(*labels, start=0):
    return [(f"text {number}", label) for number, label in enumerate(labels, start)]


def read(tmp_path, train, validation=None, test=None):
    validation = validation or [(f"v {text}", label) for text, label in train]
    test = test or [(f"t {text}", label) for text, label in train]
    return read_task(make(tmp_path, train, validation, test))


def write_formats(folder, labels):
    """The same rows as a file of each format, as pandas writes a column of numbers with a gap."""
    texts = [f"text {number}" for number in range(len(labels))]
    pq.write_table(pa.table({"text": texts, "label": pa.array(labels, pa.float64())}), folder / "a.parquet")
    lines = [json.dumps({"text": text, "label": label}) for text, label in zip(texts, labels, strict=True)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    cells = ["" if label != label else str(label) for label in labels]
    table = "\n".join(f"{text},{cell}" for text, cell in zip(texts, cells, strict=True))
    (folder / "a.csv").write_text(f"text,label\n{table}\n")
    return [folder / name for name in ("a.parquet", "a.jsonl", "a.csv")]


# Forms of a number


@pytest.mark.parametrize("whole", ["train", "validation", "test"])
def test_whole_numbers_in_one_split_and_floats_in_another_are_one_class(tmp_path, whole):
    splits = {
        name: [
            (f"{name} {number}", str(number % 2) if name == whole else f"{number % 2}.0")
            for number in range(8)
        ]
        for name in ("train", "validation", "test")
    }
    data = read_task(make(tmp_path, *splits.values()))
    assert data.labels == ("0", "1")
    assert data.validation.labels.tolist() == [0, 1] * 4
    assert data.notes == ("labels: 0 and 0.0 are one class, as are all whole numbers",)


def test_both_forms_in_one_split_are_one_class_and_so_are_those_in_one_form(tmp_path):
    data = read(tmp_path, rows("1", "1.0", "2.0", "-3.0", "x.0", "1.5"))
    assert data.labels == ("-3", "1", "1.5", "2", "x.0")


@pytest.mark.parametrize(("train", "validation"), [("1", "1.00"), ("1.0", "1.000"), ("1.00", "1")])
def test_whole_numbers_are_one_class_however_many_zeros_follow_the_point(tmp_path, train, validation):
    data = read(tmp_path, rows(train, "0.0"), rows(validation, "0.0", start=8), rows("0.0", start=16))
    assert data.labels == ("0", "1")
    first, second = sorted([train, validation])
    assert data.notes[0] == f"labels: {first} and {second} are one class, as are all whole numbers"


@pytest.mark.parametrize(
    "labels", [("0.0", "1.0"), ("0", "1"), ("1.00", "2.00"), ("12345678901234567890", "12345678901234567891")]
)
def test_labels_in_one_form_stay_as_they_are_written(tmp_path, labels):
    data = read(tmp_path, rows(*labels))
    assert data.labels == tuple(sorted(labels))
    assert data.notes == ()


@pytest.mark.parametrize(
    "labels", [("01", "1"), ("1.1", "1.10"), (".5", "0.5", "0.50"), ("+1", "1", "1e0"), ("-0", "0", "00")]
)
def test_labels_that_are_one_number_are_named_and_stay_classes(tmp_path, labels):
    data = read(tmp_path, rows(*labels))
    assert data.labels == tuple(sorted(labels))
    named = ", ".join(f"{label!r} (3 rows)" for label in sorted(labels))
    assert data.notes == (f"labels that look alike are classes of their own: {named}",)


# White space, case, words for nothing


def test_labels_that_look_alike_are_named_and_stay_classes(tmp_path):
    data = read(tmp_path, rows("pos", "neg", "pos", "pos ", "Pos", "\uff4eeg"))
    assert data.labels == ("Pos", "neg", "pos", "pos ", "\uff4eeg")
    assert data.notes == (
        "labels that look alike are classes of their own: 'pos' (6 rows), 'Pos' (3 rows), 'pos ' (3 rows)",
        "labels that look alike are classes of their own: 'neg' (3 rows), '\uff4eeg' (3 rows)",
    )


def test_labels_that_look_like_a_missing_value_are_named_and_stay_classes(tmp_path):
    data = read(tmp_path, rows("pos", "neg", "nan", "None", "n/a"))
    assert data.labels == ("None", "n/a", "nan", "neg", "pos")
    assert data.notes == (
        "labels that look like a missing value are classes: 'None' (3 rows), 'n/a' (3 rows), 'nan' (3 rows)",
    )


def test_very_many_labels_that_look_alike_make_few_notes_of_bounded_length(tmp_path):
    long = "x" * 10_000
    data = read(tmp_path, rows(*(f"{long}{n}{end}" for n in range(20) for end in ("", " "))))
    assert len(data.notes) == 6
    assert data.notes[-1] == "so are 15 more groups of labels"
    assert all(len(note) < 300 for note in data.notes)


# NaN


def test_a_label_that_is_nan_is_missing_in_every_format(tmp_path):
    said = set()
    for path in write_formats(tmp_path, [0.0, 1.0, float("nan"), 0.0]):
        with pytest.raises(InputError) as caught:
            read_task(Task(name="mood", text=("text",), files=Files(train=str(path))))
        said.add(caught.value.rule)
    assert said == {"1 of 4 rows have no label ('label'): row 3"}


def test_a_text_that_is_nan_is_missing_and_infinity_is_a_text(tmp_path):
    lines = '{"text": NaN, "label": "a"}\n{"text": Infinity, "label": "b"}'
    (tmp_path / "a.jsonl").write_text(lines)
    with pytest.raises(InputError, match=r"1 of 2 rows have no text \('text'\): row 1"):
        read_task(Task(name="mood", text=("text",), files=Files(train=str(tmp_path / "a.jsonl"))))


# Half a character


@pytest.mark.parametrize(
    ("row", "what"), [(("half \ud83d", "pos"), "text ('text')"), (("whole", "pos\udc00"), "label ('label')")]
)
def test_a_lone_surrogate_is_refused_naming_its_row(tmp_path, row, what):
    with pytest.raises(InputError) as caught:
        read_task(make(tmp_path, [*ROWS[:3], row, *ROWS]))
    rule = f"1 of 24 rows have half a character (a lone surrogate) in their {what}: row 4"
    assert caught.value.rule == rule
    assert str(caught.value).encode()


def test_a_whole_pair_of_surrogates_is_a_character(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        "\n".join(f'{{"text": "\\ud83d\\ude00 {n}", "label": "{n % 2}"}}' for n in range(30))
    )
    data = read_task(Task(name="mood", text=("text",), files=Files(train=str(tmp_path / "a.jsonl"))))
    assert data.train.texts[0][0].startswith("😀")


def test_half_characters_and_empty_cells_are_reported_together(tmp_path):
    with pytest.raises(InputErrors) as caught:
        read_task(make(tmp_path, [("\ud83d", ""), *ROWS]))
    assert len(caught.value.problems) == 2
