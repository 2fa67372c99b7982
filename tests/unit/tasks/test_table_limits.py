"""Tables that are small as files and large in memory, or that no reader should open, and long cells."""

import csv
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import InputError
from pipelines.tasks import parquet, readers
from pipelines.tasks.readers import read_hub, read_table
from pipelines.tasks.span_rows import read_span_hub
from pipelines.tasks.task import Hub, Task

TASK = Task(name="tickets", text=("body",), label="queue")
HUB_READERS = [
    pytest.param(lambda hub: read_hub(hub, TASK, "tickets.hub"), id="texts"),
    pytest.param(lambda hub: read_span_hub(hub, "tickets.hub"), id="spans"),
]


def read(path):
    return read_table(str(path), TASK, "tickets.files.train")


def refusal(path):
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.key == "tickets.files.train"
    assert len(str(caught.value)) < 1000
    return f"{caught.value.rule}. {caught.value.fix}"


def runs(values, rows):
    """A column in which the values take turns, as indices into a dictionary of them."""
    indices = pa.array([row % len(values) for row in range(rows)], pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(values))


def write(path, columns, **how):
    pq.write_table(pa.table(columns), path, **how)
    return path


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("read", HUB_READERS)
def test_a_local_hub_folder_with_such_a_file_is_refused_before_datasets_unpacks_it(tmp_path, read, nested):
    long = runs(["x" * 600_000], 10_000)
    body = pa.StructArray.from_arrays([long], ["text"]) if nested else long
    (tmp_path / "data").mkdir()
    path = write(tmp_path / "data" / "train.parquet", {"body": body, "queue": runs(["a", "b"], 10_000)})
    with pytest.raises(InputError, match=r"unpacks to 6\.0 GB or more, over the 2 GB of one table") as caught:
        read(Hub(path=str(tmp_path)))
    assert (caught.value.key, caught.value.value) == ("tickets.hub.path", str(path))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("bound", "most", "rule"), [("MOST_BYTES", 2000, "unpacks to "), ("MOST_CELLS", 29, "holds 30 cells")]
)
@pytest.mark.parametrize("read", HUB_READERS)
def test_a_split_of_the_hub_s_over_the_bounds_is_refused_before_it_is_unpacked(
    tmp_path, monkeypatch, read, bound, most, rule
):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "hub").mkdir()
    row = {"body": "x" * 100, "queue": "a", "context": "", "question": "", "answers": {}}
    (tmp_path / "hub" / "train.jsonl").write_text(f"{json.dumps(row)}\n" * 30)
    monkeypatch.setattr(parquet, bound, most)
    with pytest.raises(InputError, match=rule) as caught:
        read(Hub(path=str(tmp_path / "hub"), validation=None, test=None))
    assert caught.value.key == "tickets.hub.train"


@pytest.mark.parametrize("store_schema", [True, False])
def test_a_small_parquet_that_unpacks_to_gigabytes_is_refused_before_it_does(tmp_path, store_schema):
    columns = {"body": runs(["x" * 600_000], 10_000), "queue": runs(["a", "b"], 10_000)}
    path = write(tmp_path / "a.parquet", columns, store_schema=store_schema)
    assert path.stat().st_size < 1_000_000
    before = pa.total_allocated_bytes()
    assert "unpacks to 6.0 GB or more, over the 2 GB of one table. Keep the rows" in refusal(path)
    assert pa.total_allocated_bytes() - before < 100_000_000


def test_a_run_of_one_long_text_within_the_bound_is_one_text_in_memory(tmp_path):
    columns = {"body": runs(["x" * 100_000], 3000), "queue": runs(["a", "b"], 3000)}
    table = read(write(tmp_path / "a.parquet", columns))
    assert len(table.texts[0]) == 3000
    assert len({id(text) for text in table.texts[0]}) == 1


def test_columns_that_are_not_read_do_not_count(tmp_path):
    columns = {"body": ["x", "y"], "queue": ["a", "b"], "photo": runs(["x" * 600_000], 2)}
    write(tmp_path / "a.parquet", columns)
    assert read(tmp_path / "a.parquet").labels == ["a", "b"]


def test_more_cells_than_any_data_set_has_are_refused_by_the_file_s_own_count(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MOST_CELLS", 999)
    columns = {"body": ["x"] * 1000, "queue": [1] * 1000}
    assert "holds 1,000 cells in a column, more than 999" in refusal(write(tmp_path / "a.parquet", columns))


def test_batches_and_row_groups_are_one_table(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_ROWS", 7)
    bodies = [None if row % 5 == 0 else f"text {row % 13}" for row in range(100)]
    columns = {"body": bodies, "queue": [row % 3 for row in range(100)]}
    table = read(write(tmp_path / "a.parquet", columns, row_group_size=30))
    assert table.texts == (bodies,)
    assert table.labels == [str(row % 3) for row in range(100)]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_a_file_of_text_over_the_bound_is_refused_unread(tmp_path, monkeypatch, name):
    monkeypatch.setattr(readers, "MOST_BYTES", 20)
    (tmp_path / name).write_text("x" * 21)
    assert "of one table. Keep the rows that are needed" in refusal(tmp_path / name)


def test_a_folder_of_texts_over_the_bound_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MOST_BYTES", 20)
    (tmp_path / "a").mkdir()
    for name in ("1.txt", "2.txt"):
        (tmp_path / "a" / name).write_text("x" * 15)
    assert "of one table. Keep the rows that are needed" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_pipe_and_a_device_are_refused_unread(tmp_path, name):
    os.mkfifo(tmp_path / name)
    assert "is no plain file" in refusal(tmp_path / name)
    (tmp_path / f"link{name}").symlink_to("/dev/zero")
    assert "is no plain file" in refusal(tmp_path / f"link{name}")


@pytest.mark.parametrize("name", ["extra", "body"])
def test_json_that_is_nested_too_deeply_names_its_line(tmp_path, name):
    path = tmp_path / "a.jsonl"
    deep = "[" * 20_000 + "]" * 20_000
    path.write_text(f'{{"body": "x", "queue": "a"}}\n{{"body": "x", "queue": "a", "{name}": {deep}}}\n')
    assert refusal(path) == "line 2 is nested too deeply. Write one JSON object a line."


def test_a_csv_cell_may_be_as_long_as_its_file(tmp_path):
    long = 'said "so", ' * 40_000  # more than the csv module's 131,072
    quoted = long.replace('"', '""')
    (tmp_path / "a.csv").write_text(f'body,queue\n"{quoted}",a\nx,b\n')
    before = csv.field_size_limit()
    assert read(tmp_path / "a.csv").texts == ([long, "x"],)
    assert csv.field_size_limit() == before


def test_an_unclosed_quote_is_still_named_where_it_begins(tmp_path):
    (tmp_path / "a.csv").write_text('body,queue\nx,a\n"y,b\n' + "z,a\n" * 50_000)
    assert refusal(tmp_path / "a.csv").startswith("line 3 is not valid csv: unexpected end of data. Quote")


def test_long_csv_cells_are_read_by_several_threads_at_once(tmp_path):
    paths = [tmp_path / f"{number}.csv" for number in range(8)]
    for number, path in enumerate(paths):
        path.write_text(f"body,queue\n{str(number) * (140_000 if number % 2 else 10)},a\n")
    before = csv.field_size_limit()
    with ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(read, paths * 4))
    assert [table.texts[0][0][0] for table in tables] == [str(number) for number in range(8)] * 4
    assert csv.field_size_limit() == before


def test_a_parquet_text_that_is_not_utf8_is_refused(tmp_path):
    columns = {"body": ["whole", "broken"] * 9, "queue": ["a", "b"] * 9}
    path = write(tmp_path / "a.parquet", columns, compression="none")
    path.write_bytes(path.read_bytes().replace(b"broken", b"bro\xb3en"))
    assert "is not valid parquet: " in refusal(path)
