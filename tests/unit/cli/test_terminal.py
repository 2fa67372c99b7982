"""What the command prints arrives whatever reads it, and does nothing to it."""

import io
import json
import logging
import os
import signal
import sys

import pytest
from studies import add, create, filled

from pipelines.bundle import AdapterBundle, Prediction
from pipelines.bundle_files import BundleConfig
from pipelines.config import TrainConfig
from search.cli import app as cli
from search.cli import terminal

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m"
LABEL = "猫…"


class Stream(io.TextIOWrapper):
    """An output of any encoding, as a pipe or a terminal has it; strict, as Python opens it."""

    def __init__(self, encoding):
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)

    @property
    def text(self):
        return self.buffer.getvalue().decode(self.encoding)


@pytest.fixture
def adaptune(monkeypatch, tmp_path):
    """Run the command in this process with an output of a given encoding; (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("ADAPTUNE_DEBUG", "")
    monkeypatch.setenv("COLUMNS", "200")
    for console in (terminal.out, terminal.err):
        monkeypatch.setattr(console, "quiet", False)
        monkeypatch.setattr(console, "goes_on", None)

    def run(*arguments, encoding="utf-8", stdout=None):
        streams = (stdout or Stream(encoding), Stream(encoding))
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        monkeypatch.setattr(sys, "argv", ["adaptune", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, getattr(streams[0], "text", None), streams[1].text

    return run


@pytest.fixture
def storage(tmp_path):
    return filled(tmp_path / "runs", _stopped)


def _stopped(record):
    study = create(record, "tickets/queue/adapter")
    add(study, [0.5, 0.75])
    study.stop(f"{LABEL} {HOSTILE}")


@pytest.fixture
def bundle(monkeypatch):
    """Predicts a label that few encodings have, with an escape sequence in it."""
    config = BundleConfig(
        backbone="encoder",
        backbone_fingerprint="0" * 64,
        task="queue",
        kind="classification",
        text_columns=("body",),
        labels=(LABEL, HOSTILE),
        pooling="cls",
        max_tokens=8,
        train=TrainConfig(method="adapter", adapter_size=8, learning_rate=1e-3, epochs=1),
    )

    class Bundle:
        def __init__(self):
            self.config = config

        def predict(self, rows):
            return [Prediction(row, LABEL + HOSTILE, {LABEL: 0.75, HOSTILE: 0.25}) for row in rows]

    monkeypatch.setattr(AdapterBundle, "load", lambda *_, **__: Bundle())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["predict", "--help"], ["tasks"], ["spaces"], ["schema"], ["results", "tickets"]],
)
def test_no_command_fails_for_the_outputs_encoding(adaptune, storage, encoding, arguments):
    code, printed, said = adaptune(*arguments, encoding=encoding)
    assert (code, said) == (0, "")
    assert printed


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_error_is_told_in_any_encoding(adaptune, encoding):
    code, _, said = adaptune("results", LABEL, encoding=encoding)
    assert code == 2
    assert "no jobs under" in said


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16-le", "utf-8"])
def test_json_is_the_same_whatever_the_encoding(adaptune, storage, bundle, encoding):
    _, printed, _ = adaptune("predict", "bundle", "😀 ü", "--json", encoding=encoding)
    label, scores = LABEL + HOSTILE, {LABEL: 0.75, HOSTILE: 0.25}
    assert json.loads(printed) == {"text": "😀 ü", "label": label, "scores": scores}
    assert ("😀" in printed) == (encoding == "utf-8")
    _, printed, _ = adaptune("results", "tickets", "--json", encoding=encoding)
    assert json.loads(printed)["tasks"][0]["reason"] == f"{LABEL} {HOSTILE}"


@pytest.mark.integration
@pytest.mark.parametrize(
    "arguments",
    [
        ["results", "tickets"],
        ["results", "tickets", "--json"],
        ["predict", "bundle", f"a {HOSTILE}"],
        ["predict", "bundle", f"a {HOSTILE}", "--json"],
        ["results", HOSTILE],
        ["check", f"{HOSTILE}.yaml"],
        ["predict", "bundle", "text", "--output", f"{HOSTILE}/out.jsonl"],
    ],
)
def test_no_escape_sequence_of_a_label_a_text_or_a_name_reaches_the_terminal(
    adaptune, storage, bundle, arguments
):
    _, printed, said = adaptune(*arguments)
    assert printed + said
    assert not {"\x1b", "\x07", "\x9b"} & set(printed + said)


def test_what_is_logged_is_told_harmlessly_and_without_secrets(adaptune, monkeypatch):
    def warn():
        log = logging.getLogger("search.cluster.jobs")
        log.warning("%s[bold]at[/bold] %s", HOSTILE, "http://bob:hunter2@host")
        log.info("not told")
        return ()

    monkeypatch.setattr("pipelines.tasks.registry.registered_tasks", warn)
    _, _, said = adaptune("tasks")
    assert said.endswith(r"owned\x1b[2J\x9b31m[bold]at[/bold] http://bob:***@host" + "\n")
    assert not {"\x1b", "\x07", "\x9b"} & set(said)
    assert "not told" not in said


def test_a_prediction_is_one_line_of_three_parts_whatever_is_in_the_text(adaptune, bundle):
    _, printed, _ = adaptune("predict", "bundle", "a\tb\nc")
    assert printed.count("\n") == 1
    assert printed.split("\t")[1:] == ["0.750", "a\\tb\\nc\n"]


@pytest.fixture
def unread():
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield stream


@pytest.mark.parametrize(
    "arguments", [["tasks"], ["schema"], ["results", "tickets"], ["results", "tickets", "--json"]]
)
def test_a_command_whose_output_nobody_reads_ends_quietly(adaptune, storage, unread, arguments):
    assert adaptune(*arguments, stdout=unread) == (0, None, "")


def test_a_search_goes_on_when_nobody_reads_its_output_and_says_so(adaptune, tmp_path, monkeypatch, unread):
    trials = []

    def search(job, *, progress, **_):
        for number in range(3):
            progress.message(f"trial {number}")
            trials.append(number)
        return {"job": job.name, "state": "finished", "tasks": []}

    monkeypatch.setattr("search.runner.run", search)
    (tmp_path / "rows.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "job.yaml").write_text(
        "{name: tickets, backbone: encoder, tasks: [{name: queue, files: {train: rows.csv}}]}"
    )
    code, _, said = adaptune("run", "job.yaml", stdout=unread)
    assert (code, trials) == (0, [0, 1, 2])
    assert said == (
        "nobody reads the output any more; the search goes on. adaptune results tickets shows what it has\n"
    )


def test_a_search_goes_on_when_its_log_is_on_a_full_disk(monkeypatch):
    console = terminal.Terminal()
    console.goes_on = "the search goes on"
    told = io.StringIO()
    monkeypatch.setattr(terminal.err, "file", told)
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        monkeypatch.setattr(sys, "stdout", full)
        console.print("trial 0")
        console.print("trial 1")
    assert told.getvalue() == ("the output cannot be written (No space left on device); the search goes on\n")


def test_a_closed_output_is_no_failure(adaptune, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["adaptune", "schema"])
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as end:
        cli.main()
    sys.stdout.close()
    assert end.value.code == 0
