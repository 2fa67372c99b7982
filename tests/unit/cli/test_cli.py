"""The command's manners: exit codes, where errors go, what --help and --json print."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
from jobs import write_job
from studies import add, create, filled, note_winner, opened

from pipelines.errors import BundleError, InputError
from search.cli import app as cli
from search.cli.terminal import local_path
from search.cluster.jobs import ClusterJob
from search.errors import Interrupted, JobError, Problem, RemoteError, UserError
from search.job.job import SearchJob
from search.results import read_results
from search.storage import Storage
from search.study import Record

HERE = ["check", "run", "resume", "results", "export", "predict", "ui", "report"]
CLUSTER = ["submit", "status", "logs", "stop", "list"]
COMMANDS = [*HERE, *CLUSTER, "data", "glue-submission", "tasks", "spaces", "schema"]
RESUMABLE = "nothing is lost. Go on with: adaptune resume tickets"


class Run:
    """What a command printed, and its exit code."""

    def __init__(self, code, captured):
        self.code = code
        self.out, self.err = captured


@pytest.fixture
def adaptune(monkeypatch, capsys, tmp_path):
    """Run the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # of a command that ends; the tests go on
    monkeypatch.setenv("ADAPTUNE_DEBUG", "")
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["adaptune", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Run(end.value.code, capsys.readouterr())

    return run


@pytest.fixture
def failing(monkeypatch, adaptune):
    """Run a command whose work ends in an error."""

    def run(error, *flags):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr("search.cli.results._fetch_results", fail)
        return adaptune(*flags, "results", "tickets")

    return run


@pytest.fixture
def storage(tmp_path):
    """A storage with an interrupted job."""
    return filled(tmp_path / "runs", _interrupted)


def _interrupted(record):
    study = create(record, "tickets/queue/adapter")
    add(study, [0.5, 0.75])
    add(study, [], "failed", reason="OSError: [/data/x] is gone")
    create(record, "tickets/tone/adapter", position=1)


@pytest.fixture
def tiny_job(tmp_path):
    """A job file of any name, that the command can read."""

    def write(name):
        (tmp_path / "rows.csv").write_text("text,label\na,x\nb,y\n")
        job = tmp_path / "job.yaml"
        job.write_text(
            f"name: {name}\nbackbone: some-encoder\n"
            "tasks: [{name: queue, files: {train: rows.csv}, text: text, label: label}]\n"
        )
        return job

    return write


def test_without_arguments_the_command_says_what_it_is_for(adaptune):
    run = adaptune()
    assert "AutoML for adapters" in run.out + run.err


def test_help_lists_every_command_with_what_it_does(adaptune):
    run = adaptune("--help")
    assert (run.code, run.err) == (0, "")
    assert "adaptune check job.yaml" in run.out
    for command in COMMANDS:
        assert any(line.strip("│ ").startswith(f"{command} ") for line in run.out.splitlines()), command


def test_the_version_is_that_of_the_package(adaptune):
    run = adaptune("--version")
    assert (run.code, run.out) == (0, f"adaptune {version('adaptune')}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_explains_it_and_each_of_its_options(adaptune, command):
    run = adaptune(command, "--help")
    assert (run.code, run.err) == (0, "")
    assert f"adaptune {command}" in run.out
    text = [line.strip("│ ") for line in run.out.splitlines()]
    assert any(line.endswith(".") and len(line.split()) >= 3 for line in text)
    undescribed = [line for line in text if line.startswith("--") and len(line.split()) < 3]
    assert undescribed == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nope"],
        ["frobnicate"],
        ["results"],
        ["results", "tickets", "--nope"],
        ["results", "tickets", "more"],
        ["export", "tickets"],
        ["ui", "--port", "many"],
        ["submit", "job.yaml"],
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_what_is_wrong(adaptune, arguments):
    run = adaptune(*arguments)
    assert run.code == 2
    assert run.out == ""
    assert run.err.strip()
    assert "Traceback" not in run.err
    assert "What was done so far" not in run.err  # nothing was


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("no such job"), 2),
        (JobError("job.yaml", [Problem("search.trials", 0, "needs 1 or more", "Write 18.")]), 2),
        (InputError("backbone", "x", "no such folder", "Correct the path."), 2),
        (BundleError("weights are missing"), 2),
        (RemoteError("the job's driver ended with 1"), 1),
        (RuntimeError("boom"), 1),
        (OSError(28, "No space left on device"), 1),
        (Interrupted(RESUMABLE), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_has_its_exit_code_and_goes_to_stderr_without_a_traceback(failing, error, code):
    run = failing(error)
    assert (run.code, run.out) == (code, "")
    assert "Traceback" not in run.err
    assert (str(error) or "interrupted") in run.err


def test_an_error_of_the_user_is_told_as_it_is(failing):
    assert failing(UserError("no [/such] job")).err == "no [/such] job\n"


def test_an_unforeseen_error_says_how_to_see_more_and_promises_nothing_where_nothing_was_begun(failing):
    run = failing(RuntimeError("boom"))
    assert "RuntimeError: boom" in run.err
    assert "adaptune --debug" in run.err
    assert "kept" not in run.err
    assert "resume" not in run.err


@pytest.mark.integration
@pytest.mark.parametrize(("name", "begun"), [("tickets", True), ("others", False)])
def test_an_unforeseen_error_in_a_search_says_how_to_go_on_where_it_was_begun(
    adaptune, storage, tiny_job, monkeypatch, name, begun
):
    def fail(*_, **__):
        raise RuntimeError("boom")

    monkeypatch.setattr("search.runner.run", fail)
    run = adaptune("run", tiny_job(name))
    assert run.code == 1
    assert "RuntimeError: boom" in run.err
    assert ("What was done so far is kept. Go on with: adaptune resume tickets\n" in run.err) is begun
    assert ("resume" in run.err) is begun


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted("tickets")])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tickets", "interrupted; nothing is lost. Go on with: adaptune resume tickets\n"),
        ("others", "interrupted; nothing was begun\n"),
    ],
)
def test_an_interrupted_search_says_how_to_go_on_where_there_is_something_to_go_on_with(
    adaptune, storage, tiny_job, monkeypatch, name, said, stop
):
    def interrupt(*_, **__):
        raise stop

    monkeypatch.setattr("search.runner.run", interrupt)
    run = adaptune("run", tiny_job(name))
    assert (run.code, run.err) == (130, said)


@pytest.fixture
def elsewhere(tmp_path, tiny_job):
    """The job file of a job whose record lies in a folder with a space and in a database of its own."""
    job = tiny_job("tickets")
    database = f"sqlite:///{tmp_path}/my studies.db"
    job.write_text(job.read_text() + f"storage: my runs\ndatabase: {database}\n")
    with Record(Storage(str(tmp_path / "my runs"), database)) as record:
        study = create(record, "tickets/queue/adapter", job=SearchJob.load(job).to_record())
        add(study, [0.5, 0.75])
        add(study, [], "failed", reason="TrialTimeout: it took too long")
        note_winner(study, 0)
    return job


def printed_command(text, start):
    """The words of a command that stands in a text, up to the end of its line."""
    (line,) = [line for line in text.splitlines() if start in line]
    return shlex.split(line[line.index("adaptune ") :])[1:]


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        (["TrialDiverged: loss nan at step 3"], "trials that failed: 1.\n"),
        (
            ["TrialDiverged: loss nan at step 3", "its worker died", "TrialTimeout: it took too long"],
            "trials that failed: 3. Try 2 of them again with: adaptune resume tickets --retry-failed\n",
        ),
    ],
)
def test_trying_again_is_advised_for_trials_that_it_can_help_alone(
    adaptune, tiny_job, tmp_path, monkeypatch, reasons, said
):
    with opened(tmp_path / "runs") as record:
        study = create(record, "tickets/queue/adapter")
        note_winner(study, add(study, [0.5, 0.75]))
        for reason in reasons:
            add(study, [], "failed", reason=reason)
    monkeypatch.setattr("search.runner.run", recorded)
    run = adaptune("run", tiny_job("tickets"))
    assert run.code == 0
    assert run.err == said


def recorded(job, **_):
    return read_results(job.name, Storage(job.storage, job.database))


def test_what_an_interrupted_search_elsewhere_prints_can_be_typed(adaptune, elsewhere, monkeypatch):
    begun = []

    def interrupt(job, **_):
        begun.append(Storage(job.storage, job.database))
        raise KeyboardInterrupt

    monkeypatch.setattr("search.runner.run", interrupt)
    run = adaptune("run", elsewhere)
    again = adaptune(*printed_command(run.err, "Go on with: "))
    assert again.err == run.err
    assert begun[0] == begun[1]


def test_each_command_under_next_of_a_search_elsewhere_finds_its_record(adaptune, elsewhere, monkeypatch):
    monkeypatch.setattr("search.runner.run", recorded)
    run = adaptune("run", elsewhere)
    exported = []
    monkeypatch.setattr("search.results.export_bundles", lambda found, *_, **__: exported.append(found) or {})
    assert adaptune(*printed_command(run.out, "adaptune export")).code == 0
    assert [found["state"] for found in exported] == ["finished"]
    again = adaptune(*printed_command(run.err, "--retry-failed"))
    assert (again.code, again.out) == (0, run.out)
    shown = adaptune(*printed_command(run.out, "adaptune ui"))
    assert f"{elsewhere.parent / 'my runs'} has no mlflow.db" in shown.err


def finished_at_once(job, **_):
    return {"job": job.name, "state": "finished", "tasks": []}


def test_an_export_that_has_to_wait_says_where_the_job_lies(adaptune, elsewhere, monkeypatch):
    place = ["--storage", "my runs", "--database", f"sqlite:///{elsewhere.parent}/my studies.db"]
    with Record(Storage(str(elsewhere.parent / "my runs"), place[-1])) as record:
        create(record, "tickets/tone/adapter", position=1)
    run = adaptune("export", "tickets", "--out", "out", *place)
    assert run.code == 2
    monkeypatch.setattr("search.runner.run", finished_at_once)
    named = [shlex.split(words) for words in re.findall("`adaptune (.*?)`", run.err)]
    assert [words[0] for words in named] == ["results", "resume"]
    assert [adaptune(*words).err for words in named] == ["", ""]


def test_commands_for_a_job_on_a_cluster_name_its_database_and_no_password(adaptune, monkeypatch):
    monkeypatch.setattr("search.cluster.jobs.resume", lambda *_, **__: "adaptune-tickets-0002")
    stopped = ClusterJob("tickets", "adaptune-tickets-0002", "interrupted", "", "/mnt", None, None, True)
    monkeypatch.setattr("search.cluster.jobs.stop", lambda *_: stopped)
    where = ["--address", "http://head:8265"]
    run = adaptune("resume", "tickets", *where, "--database", "postgresql://me:hush@db/x")
    where = "--address http://head:8265"
    assert f"adaptune results tickets {where} --database @FILE\n" in run.out
    assert f"adaptune export tickets --out adapters {where} --database @FILE\n" in run.out
    assert f"adaptune logs tickets --follow {where}\n" in run.out
    stop = adaptune("stop", "tickets", *where.split())
    assert f"Go on with: adaptune resume tickets {where} --database @FILE\n" in stop.out
    assert "hush" not in run.out + stop.out


def test_debug_lets_the_error_through_with_its_traceback(failing):
    with pytest.raises(RuntimeError, match="boom"):
        failing(RuntimeError("boom"), "--debug")


def test_a_job_file_with_errors_has_them_all_on_stderr(adaptune, tmp_path):
    (tmp_path / "job.yaml").write_text("name: tickets\nsampelr: tpe\ntasks: []\n")
    run = adaptune("check", "job.yaml")
    assert (run.code, run.out) == (2, "")
    assert "job.yaml: 3 problem(s)" in run.err
    for key in ("sampelr", "tasks", "backbone"):
        assert f"  {key} = " in run.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.integration
@pytest.mark.parametrize("command", ["check", "run"])
def test_what_this_machine_does_not_have_is_refused_before_anything_starts(adaptune, tmp_path, command):
    run = adaptune(command, write_job(tmp_path, resources={"cpus": 9999}))
    assert run.code == 2
    assert "resources.cpus = 9999: this machine has " in run.err
    assert not (tmp_path / "runs" / "studies.db").exists()


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_database_that_is_away_is_named_with_what_to_look_at(adaptune, tmp_path, command):
    run = adaptune(command, write_job(tmp_path, database="sqlite:////not/there/x.db"))
    assert run.code == 2
    assert "database sqlite:////not/there/x.db cannot be opened" in run.err
    assert "`database:` in the job file and --database name it." in run.err


def test_a_missing_job_file_is_named(adaptune):
    run = adaptune("run", "nothing.yaml")
    assert run.code == 2
    assert "nothing.yaml" in run.err


def test_results_as_json_are_json_and_nothing_else(adaptune, storage):
    run = adaptune("results", "tickets", "--json")
    assert (run.code, run.err) == (0, "")
    found = json.loads(run.out)
    assert (found["job"], found["state"]) == ("tickets", "interrupted")
    assert [entry["task"] for entry in found["tasks"]] == ["queue", "tone"]


def test_results_of_one_task_are_those_alone(adaptune, storage):
    run = adaptune("results", "tickets", "--task", "tone", "--json", "--storage", storage)
    assert [entry["task"] for entry in json.loads(run.out)["tasks"]] == ["tone"]


def test_results_are_a_leaderboard(adaptune, storage):
    run = adaptune("results", "tickets")
    assert (run.code, run.err) == (0, "")
    assert "tickets: interrupted" in run.out
    assert "Go on with: adaptune resume tickets" in run.out
    assert "0.7500" in run.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["results", "tikets"], "Jobs there: tickets"),
        (["resume", "tikets"], "Jobs there: tickets"),
        (["export", "tikets", "--out", "out"], "Jobs there: tickets"),
        (["results", "tickets", "--task", "quue"], "Its tasks: queue, tone"),
        (["export", "tickets", "--out", "out"], "no bundle yet for queue, tone"),
        (["results", "tickets", "--storage", "elsewhere"], "--storage"),
        (["ui"], "no mlflow.db"),
        (["predict", "nowhere", "text"], "nowhere"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(adaptune, storage, arguments, said):
    run = adaptune(*arguments)
    assert (run.code, run.out) == (2, "")
    assert said in run.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "https://h/x/job.yaml"],
        ["run", "https://h/x/job.yaml"],
        ["submit", "https://h/x/job.yaml", "--address", "http://127.0.0.1:1"],
        ["predict", "s3://b/x", "text"],
        ["predict", "bundle", "--input", "https://h/rows.csv"],
        ["export", "tickets", "--out", "s3://b/x"],
        ["report", "tickets", "--out", "s3://b/x"],
        ["data", "prepare", "sms_spam", "https://h/x.zip"],
        ["results", "tickets", "--database", "@file:///etc/db"],
    ],
)
def test_an_address_is_no_path_and_is_told_as_it_was_written(adaptune, tmp_path, storage, arguments):
    (address,) = [word for word in arguments if "://" in word and "127.0.0.1" not in word]
    before = sorted(tmp_path.iterdir())
    run = adaptune(*arguments)
    assert (run.code, run.out) == (2, "")
    assert f"{address.lstrip('@')} is an address, and this takes a file or folder of this machine" in run.err
    assert sorted(tmp_path.iterdir()) == before


def test_every_path_of_every_command_refuses_addresses():
    def commands(app):
        yield from (command.callback for command in app.registered_commands)
        for group in app.registered_groups:
            yield from commands(group.typer_instance)

    paths = {
        (command.__name__, name): hint.__metadata__[0].parser
        for command in commands(cli.app)
        for name, hint in get_type_hints(command, include_extras=True).items()
        if get_origin(hint) is Annotated and Path in (hint.__origin__, *get_args(hint.__origin__))
    }
    assert len(paths) > 10
    assert {place for place, parser in paths.items() if parser is not local_path} == set()


def test_predictions_are_not_written_over_a_file(adaptune, tmp_path):
    (tmp_path / "out.jsonl").write_text("mine")
    run = adaptune("predict", "bundle", "text", "--output", "out.jsonl")
    assert run.code == 2
    assert "out.jsonl exists already" in run.err
    assert (tmp_path / "out.jsonl").read_text() == "mine"


def test_the_registered_tasks_are_listed_with_kind_and_metric(adaptune):
    run = adaptune("tasks")
    assert (run.code, run.err) == (0, "")
    (line,) = [line.split() for line in run.out.splitlines() if line.split()[:1] == ["glue_cola"]]
    assert line[:3] == ["glue_cola", "classification", "matthews"]


def test_a_public_file_is_prepared_and_what_was_dropped_is_reported(adaptune, tmp_path):
    rows = "".join(f"{('ham', 'spam')[number % 2]}\tmessage {number}\n" for number in range(20))
    (tmp_path / "SMSSpamCollection").write_text(rows + "eggs\tno\n")
    run = adaptune("data", "prepare", "sms_spam", "SMSSpamCollection", "--out", "prepared")
    assert (run.code, run.err) == (0, "")
    assert "prepared/sms_spam: 16 train, 2 validation, 2 test, 2 classes" in run.out
    assert "The paper has 4,459, 557, 558 and 2 classes: this file differs from the paper's." in run.out
    assert "dropped 1: label 'eggs' is none of the task's classes (row 21)" in run.out
    again = adaptune("data", "prepare", "sms_spam", "SMSSpamCollection", "--out", "prepared")
    assert again.code == 2
    assert "already. Give another folder, or remove it first." in again.err


def test_the_presets_are_listed_with_their_values(adaptune):
    run = adaptune("spaces")
    assert (run.code, run.err) == (0, "")
    assert "glue (adapter): GLUE (§3.2)" in run.out
    assert "adapter_size: 8, 64, 256" in run.out


def test_the_schema_of_the_job_file_is_json_and_knows_its_keys(adaptune):
    run = adaptune("schema")
    assert (run.code, run.err) == (0, "")
    assert {"name", "backbone", "tasks", "space", "search", "storage"} <= json.loads(run.out)[
        "properties"
    ].keys()


def test_a_dry_run_of_submit_lists_what_would_travel_and_asks_nobody(adaptune, tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,b\n")
    (tmp_path / "job.yaml").write_text(
        "name: tickets\nbackbone: bert-base-uncased\nstorage: /mnt/runs\n"
        "tasks: [{name: mine, files: {train: train.csv}}]\n"
    )
    run = adaptune("submit", "job.yaml", "--address", "http://127.0.0.1:1", "--dry-run")
    assert (run.code, run.err) == (0, "")
    assert f"{tmp_path / 'train.csv'}: 15 bytes" in run.out
    assert run.out.splitlines()[-1] == "Nothing was sent."


@pytest.mark.integration
def test_the_installed_command_answers_in_a_process_of_its_own(tmp_path):
    command = [sys.executable, "-m", "search.cli"]
    environment = {key: value for key, value in os.environ.items() if key != "ADAPTUNE_DEBUG"}

    def run(*arguments):
        return subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert run("tasks").returncode == 0
    wrong = run("results", "tickets")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Traceback" not in wrong.stderr
    traced = run("--debug", "results", "tickets")
    assert traced.returncode != 0
    assert "Traceback" in traced.stderr
    assert run("--nope").returncode == 2


@pytest.mark.integration
def test_help_does_without_ray_torch_and_mlflow(tmp_path):
    code = "import sys, search.cli; print(sorted({'ray', 'torch', 'mlflow', 'optuna'} & set(sys.modules)))"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "[]\n"
