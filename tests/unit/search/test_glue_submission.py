"""What the GLUE server takes: https://gluebenchmark.com/faq, and the sample submission there."""

import sys
import zipfile
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from studies import add, create, note_winner, opened
from tiny import MAX_TOKENS, save_tiny_encoder

from pipelines.bundle import AdapterBundle, Prediction, write_bundle
from pipelines.bundle_files import BundleConfig
from pipelines.config import TrainConfig
from pipelines.encoder.backbone import load_backbone
from pipelines.errors import InputError
from pipelines.packs.trained import initial_parameters
from pipelines.tasks.registry import registered_entry, registered_tasks
from search import glue_submission
from search.cli import app as cli
from search.errors import UserError
from search.glue_submission import FILES, TASKS, select_entries, tsv, write_submission
from search.storage import Storage, bundle_key

SAMPLE = {  # of the server: the file's name, rows, and the words in its predictions
    "CoLA.tsv": (1063, {"0", "1"}),
    "SST-2.tsv": (1821, {"0", "1"}),
    "MRPC.tsv": (1725, {"0", "1"}),
    "STS-B.tsv": (1379, set()),
    "QQP.tsv": (390965, {"0", "1"}),
    "MNLI-m.tsv": (9796, {"entailment", "neutral", "contradiction"}),
    "MNLI-mm.tsv": (9847, {"entailment", "neutral", "contradiction"}),
    "QNLI.tsv": (5463, {"entailment", "not_entailment"}),
    "RTE.tsv": (3000, {"entailment", "not_entailment"}),
    "WNLI.tsv": (146, {"0", "1"}),
    "AX.tsv": (1104, {"entailment", "neutral", "contradiction"}),
}
ROWS = 3
fetch = Storage.fetch


def file_of(name):
    return next(one for one in FILES if one.file == name)


def test_the_files_and_their_words_are_the_server_s():
    assert {one.file: (one.rows, set(one.words.values())) for one in FILES} == SAMPLE
    assert {*TASKS} == {task.name for task in registered_tasks() if task.name.startswith("glue_")}


@pytest.mark.parametrize("one", FILES, ids=lambda one: one.file)
def test_every_label_of_the_task_has_a_word_and_the_hub_s_number_where_it_is_one(one):
    labels = registered_entry(one.task).labels
    assert set(one.words) == set(labels)
    for number, label in enumerate(labels):
        assert one.words[label] in (str(number), label)


def test_a_file_has_a_header_and_counts_from_0():
    predictions = [Prediction("a", "acceptable", {}), Prediction("b", "unacceptable", {})]
    assert tsv(file_of("CoLA.tsv"), predictions) == "index\tprediction\n0\t1\n1\t0\n"


def test_similarities_stay_between_0_and_5():
    predictions = [Prediction(("a", "b"), value, {}) for value in (-0.2, 3.14159, 5.3)]
    assert tsv(file_of("STS-B.tsv"), predictions) == "index\tprediction\n0\t0.000\n1\t3.142\n2\t5.000\n"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, encoder):
    """One untrained bundle for each GLUE task."""
    backbone = load_backbone(str(encoder))
    root = tmp_path_factory.mktemp("bundles")
    return {task: bundle(root / task, backbone, task) for task in TASKS}


def bundle(folder, backbone, name, **changes):
    entry = registered_entry(name)
    config = BundleConfig(
        backbone=backbone.name,
        backbone_fingerprint=backbone.fingerprint,
        task=name,
        kind=entry.task.kind,
        text_columns=entry.task.text,
        labels=tuple(sorted(entry.labels)),
        pooling="cls",
        max_tokens=MAX_TOKENS,
        train=TrainConfig(adapter_size=2),
    )
    config = replace(config, **changes)
    parameters = initial_parameters(backbone, config.train, outputs=len(config.labels) or 1)
    write_bundle(folder, config, parameters, metrics={}, card="")
    return folder


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """Three rows for each test set, which the server is made to expect."""
    monkeypatch.setattr(glue_submission, "FILES", tuple(replace(one, rows=ROWS) for one in FILES))
    for one in FILES:
        path = tmp_path / "data" / (one.folder or one.task) / f"{one.name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [f"good {one.file}", "bad", ""]
        pq.write_table(pa.table(dict.fromkeys(registered_entry(one.task).task.text, texts)), path)
    return tmp_path / "data"


@pytest.mark.integration
def test_a_submission_is_a_zip_of_each_bundle_s_predictions(bundles, data_dir, tmp_path):
    rows, left_out = write_submission(bundles, tmp_path / "glue.zip", data_dir=data_dir)
    assert rows == dict.fromkeys(SAMPLE, ROWS)
    assert left_out == ()
    with zipfile.ZipFile(tmp_path / "glue.zip") as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name).decode() for name in archive.namelist()}
    assert [*found] == [*SAMPLE]
    for name, (_, words) in SAMPLE.items():
        lines = found[name].splitlines()
        assert lines[0] == "index\tprediction"
        assert [line.split("\t")[0] for line in lines[1:]] == ["0", "1", "2"]
        assert not words or {line.split("\t")[1] for line in lines[1:]} <= words
    expected = AdapterBundle.load(bundles["glue_qnli"]).predict([("bad", "bad")])[0].label
    assert found["QNLI.tsv"].splitlines()[2] == f"1\t{expected}"


@pytest.mark.integration
def test_the_command_takes_the_best_bundle_of_each_task_over_the_jobs(
    bundles, data_dir, tmp_path, monkeypatch, capsys
):
    place = Storage(str(tmp_path / "runs"))
    with opened(tmp_path / "runs") as record:
        for job, score, tasks in (("first", 0.5, TASKS), ("second", 0.9, TASKS[:1])):
            for task in tasks:
                study = create(record, f"{job}/{task}/adapter")
                trial = add(study, [score])
                key = bundle_key(job, task, "adapter")
                place.upload(bundles[task], key)
                note_winner(study, trial, test={"accuracy": score}, bundle=key)
    fetched = []
    monkeypatch.setattr(
        Storage, "fetch", lambda self, uri, folder: (fetched.append(uri), fetch(self, uri, folder))
    )
    out = tmp_path / "glue.zip"
    words = ["glue-submission", "first", "second", "--storage", place.root, "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["adaptune", *words, "--data-dir", str(data_dir)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code, capsys.readouterr().err) == (0, "")
    assert [uri.split("/bundles/")[0].rsplit("/")[-1] for uri in fetched].count("second") == 1
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == [*SAMPLE]


def test_the_diagnostic_set_is_left_out_where_it_is_not_to_be_had(bundles, data_dir, tmp_path, monkeypatch):
    (data_dir / "glue_ax/unlabelled.parquet").unlink()

    def offline(*_):
        raise InputError("AX.tsv.hub.path", "nyu-mll/glue", "cannot be loaded", "Check the network.")

    monkeypatch.setattr(glue_submission, "read_hub", offline)
    rows, (left_out,) = write_submission(bundles, tmp_path / "glue.zip", data_dir=data_dir)
    assert {*SAMPLE} - {*rows} == {"AX.tsv"}
    assert left_out.startswith("AX.tsv: AX.tsv.hub.path = 'nyu-mll/glue': cannot be loaded")


@pytest.mark.integration
def test_the_hub_s_unlabelled_rows_are_read_with_the_columns_of_the_task(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "hub").mkdir()
    for split, label in (("train", 1), ("test", -1)):
        table = {"sentence1": ["a", ""], "sentence2": ["b", "c"], "label": [label] * 2, "idx": [0, 1]}
        pq.write_table(pa.table(table), tmp_path / "hub" / f"{split}.parquet")
    hub = replace(registered_entry("glue_mrpc").hub, path=str(tmp_path / "hub"), config=None)
    monkeypatch.setattr(glue_submission, "registered_hub", lambda _: hub)
    one = replace(file_of("MRPC.tsv"), rows=2)
    assert glue_submission._read_texts(one, None) == [("a", "b"), ("", "c")]


def test_a_label_that_the_server_does_not_know_is_refused(bundles, data_dir, tmp_path, encoder):
    odd = bundle(tmp_path / "odd", load_backbone(str(encoder)), "glue_rte", labels=("entailment", "no"))
    with pytest.raises(
        UserError, match=r"glue_rte: the GLUE server knows no label 'no' for RTE.tsv; it knows"
    ):
        write_submission({**bundles, "glue_rte": odd}, tmp_path / "glue.zip", data_dir=data_dir)


def test_a_bundle_of_another_kind_is_refused(bundles, data_dir, tmp_path):
    with pytest.raises(
        UserError, match=r"STS-B.tsv needs a regression, and the bundle's is a classification"
    ):
        write_submission(
            {**bundles, "glue_stsb": bundles["glue_rte"]}, tmp_path / "glue.zip", data_dir=data_dir
        )


def test_a_test_set_that_is_cut_short_is_refused(bundles, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(glue_submission, "FILES", FILES)
    with pytest.raises(
        UserError, match=r"CoLA.tsv: .*unlabelled.parquet has 3 rows, the server's test set 1,063"
    ):
        write_submission(bundles, tmp_path / "glue.zip", data_dir=data_dir)
    assert not (tmp_path / "glue.zip").exists()


def test_a_missing_task_is_refused(bundles, data_dir, tmp_path):
    some = {task: folder for task, folder in bundles.items() if task not in ("glue_qqp", "glue_wnli")}
    with pytest.raises(UserError, match="needs a bundle of glue_qqp, glue_wnli"):
        write_submission(some, tmp_path / "glue.zip", data_dir=data_dir)


def test_nothing_is_written_over(bundles, data_dir, tmp_path):
    (tmp_path / "glue.zip").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        write_submission(bundles, tmp_path / "glue.zip", data_dir=data_dir)


@pytest.mark.parametrize(
    ("state", "said"),
    [(None, "Search these tasks as well"), ("interrupted", "Their search is not finished: `adaptune resume")],
)
def test_jobs_without_a_finished_search_of_every_task_are_refused(state, said):
    entries = [{"task": task, "state": "finished"} for task in (*TASKS[1:], "tickets")]
    entries += [{"task": TASKS[0], "state": state}] if state else []
    with pytest.raises(UserError, match=f"needs a bundle of glue_cola, and a, b has none. {said}"):
        select_entries(entries, "a, b")


def test_of_the_jobs_only_finished_glue_studies_are_taken():
    entries = [{"task": task, "state": "finished"} for task in (*TASKS, "tickets")]
    taken = select_entries([*entries, {"task": TASKS[0], "state": "failed"}], "a")
    assert [entry["task"] for entry in taken] == [*TASKS]
