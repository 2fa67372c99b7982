"""What is decided here before a cluster is asked: staging, tokens, addresses, what comes back."""

import io
import json
import os
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
import requests
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.job_submission import JobDetails, JobStatus, JobType
from ruamel.yaml import YAML

from pipelines.files import BUNDLE_FILES
from pipelines.tasks.readers import READERS
from search.cli.cluster import status as show_status
from search.cluster import jobs as cluster
from search.cluster import remote, staging
from search.cluster.remote import contact, find_token, parse_results, unpack
from search.cluster.staging import stage
from search.errors import JobError, RemoteError, UserError
from search.job.job import SearchJob
from search.probe import find_open_folder, reach_database, run
from search.secrets import hide_secrets
from search.wire import JOB_FILE, decode, encode

CLUSTER_STORAGE = "/mnt/adaptune/runs"


@pytest.fixture
def write_job(tmp_path):
    """Write a job file with a task of its own files, and changes on top."""

    def write(**changes):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "train.csv").write_text("text,label\na,b\n")
        content = {
            "name": "tickets",
            "backbone": "bert-base-uncased",
            "tasks": [{"name": "mine", "files": {"train": "data/train.csv"}}],
            "storage": CLUSTER_STORAGE,
            **changes,
        }
        path = tmp_path / "job.yaml"
        with path.open("w") as file:
            YAML().dump(content, file)
        return path

    return write


def staged_content(staged):
    return YAML(typ="safe", pure=True).load(staged.yaml)


def problems(error):
    return {problem.key: problem for problem in error.value.problems}


def test_local_files_are_uploaded_and_the_job_file_names_them(write_job, tmp_path):
    staged = stage(write_job())
    task = staged_content(staged)["tasks"][0]
    assert staged.uploads == {"adaptune_data/files/0/train/train.csv": tmp_path / "data" / "train.csv"}
    assert task["files"]["train"] == "adaptune_data/files/0/train/train.csv"
    assert staged.locations == ()


def test_the_package_holds_the_job_and_the_data_even_what_git_ignores(write_job, tmp_path):
    classes = tmp_path / "classes" / "spam"
    classes.mkdir(parents=True)
    (tmp_path / "classes" / ".gitignore").write_text("*\n")
    (classes / "a.txt").write_text("hello")
    package = tmp_path / "package.zip"
    stage(write_job(tasks=[{"name": "mine", "files": {"train": "classes"}}])).write(package)
    with zipfile.ZipFile(package) as archive:
        assert archive.read("adaptune_data/files/0/train/spam/a.txt") == b"hello"
        assert JOB_FILE in archive.namelist()


def test_the_unpacked_package_is_the_same_search(write_job, tmp_path):
    job = write_job(space={"learning_rate": {"low": 3e-5, "high": 3e-3, "log": True}})
    staged = stage(job)
    staged.write(tmp_path / "package.zip")
    with zipfile.ZipFile(tmp_path / "package.zip") as archive:
        archive.extractall(tmp_path / "there")  # noqa: S202 - our own
    there = SearchJob.load(tmp_path / "there" / JOB_FILE)
    assert there.content() == staged.job.content()
    assert there.storage == CLUSTER_STORAGE
    assert Path(there.resolved_tasks()[0].files.train).read_text() == "text,label\na,b\n"


def test_only_the_used_tasks_of_data_dir_are_uploaded(write_job, tmp_path):
    for name in ("glue_cola", "glue_mrpc"):
        (tmp_path / "tables" / name).mkdir(parents=True)
        (tmp_path / "tables" / name / "train.parquet").write_bytes(b"x")
    staged = stage(write_job(tasks=["glue_cola", "glue_sst2"], data_dir="tables"))
    assert list(staged.uploads) == ["adaptune_data/data_dir/glue_cola/train.parquet"]
    assert staged_content(staged)["data_dir"] == "adaptune_data/data_dir"


def test_a_data_dir_without_the_used_tasks_is_left_out(write_job, tmp_path):
    (tmp_path / "tables").mkdir()
    assert staged_content(stage(write_job(tasks=["glue_cola"], data_dir="tables")))["data_dir"] is None


@pytest.mark.parametrize("path", ["/not/here/train.csv", "package:some_corpus/data"])
def test_what_is_not_here_is_left_for_the_cluster_to_have(write_job, path):
    staged = stage(write_job(tasks=[{"name": "mine", "files": {"train": path}}]))
    assert staged.locations == (("tasks[0].files.train", path),)
    assert not staged.uploads
    assert staged_content(staged)["tasks"][0]["files"]["train"] == path


def test_what_lies_under_the_storage_is_never_uploaded(write_job, tmp_path):
    path = str(tmp_path / "data" / "train.csv")
    staged = stage(write_job(tasks=[{"name": "mine", "files": {"train": path}}], storage=str(tmp_path)))
    assert staged.locations == (("tasks[0].files.train", path),)
    assert not staged.uploads


def test_a_backbone_folder_is_uploaded_and_a_hub_id_goes_as_it_is(write_job, tmp_path):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    staged = stage(write_job(backbone="encoder"))
    assert "adaptune_data/backbone/config.json" in staged.uploads
    assert staged_content(staged)["backbone"] == "adaptune_data/backbone"
    assert staged_content(stage(write_job()))["backbone"] == "bert-base-uncased"


SECRETS = (".env", ".git/config", ".ssh/id_rsa", "token", "notes/id_rsa", "hf_token.txt.bak", ".hidden/x.txt")


def fill(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


@pytest.mark.parametrize(
    ("changes", "taken", "left"),
    [
        (
            {"backbone": "folder"},
            [
                "config.json",
                "model.safetensors",
                "model.safetensors.index.json",
                "tokenizer.json",
                "vocab.txt",
            ],
            ["pytorch_model.bin", "train.csv", "wandb/run.json", "credentials.json", "modeling.py"],
        ),
        (
            {"tasks": [{"name": "mine", "files": {"train": "folder"}}]},
            ["ham/a.txt", "spam/b.txt"],
            ["a.txt", "ham/a.csv", "ham/more/a.txt"],
        ),
        (
            {"tasks": ["glue_mnli"], "data_dir": "folder"},
            [f"glue_mnli/{name}" for name in ("test.jsonl", "train.parquet", "validation_mismatched.csv")],
            ["glue_mnli/unlabelled.parquet", "glue_mnli/dropped.csv", "glue_cola/train.csv", "train.csv"],
        ),
        (
            {"tasks": [{"name": "mine", "hub": "./folder"}]},
            ["README.md", "data/train-00000.parquet", "data/deep/er/test.jsonl.gz"],
            ["script.py", "data/.cache/train.parquet"],
        ),
    ],
    ids=["backbone", "folder per class", "data_dir", "hub"],
)
def test_of_a_folder_only_what_is_read_is_uploaded(write_job, tmp_path, changes, taken, left):
    fill(
        tmp_path / "folder",
        *taken,
        *left,
        *SECRETS,
        *(f"{Path(taken[-1]).parent}/{name}" for name in SECRETS),
    )
    staged = stage(write_job(**changes))
    sources = {path.relative_to(tmp_path).as_posix() for path in staged.uploads.values()} - {"data/train.csv"}
    assert sources == {f"folder/{name}" for name in taken}


def test_rows_in_a_format_that_a_package_registers_are_uploaded(write_job, tmp_path, monkeypatch):
    monkeypatch.setitem(READERS, ".made", READERS[".csv"])
    fill(tmp_path, "folder/glue_cola/train.made", "folder/glue_cola/train.unknown")
    staged = stage(write_job(tasks=["glue_cola"], data_dir="folder"))
    assert list(staged.uploads) == ["adaptune_data/data_dir/glue_cola/train.made"]


@pytest.mark.parametrize("linked", ["folder/config.json", "folder/model.safetensors"])
def test_a_link_out_of_a_folder_is_not_followed_and_named(write_job, tmp_path, linked):
    fill(tmp_path, "folder/config.json", "folder/model.safetensors", "secret/id_rsa")
    (tmp_path / linked).unlink()
    (tmp_path / linked).symlink_to(tmp_path / "secret" / "id_rsa")
    with pytest.raises(JobError, match="leads out of its folder") as error:
        stage(write_job(backbone="folder"))
    assert problems(error)["backbone"].value == str(tmp_path / linked)


def test_a_class_that_is_a_link_out_is_not_followed_and_named(write_job, tmp_path):
    fill(tmp_path, "folder/ham/a.txt", "elsewhere/b.txt")
    (tmp_path / "folder" / "spam").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JobError, match="leads out of its folder"):
        stage(write_job(tasks=[{"name": "mine", "files": {"train": "folder"}}]))


def test_a_task_of_data_dir_that_is_a_link_out_is_not_followed_and_named(write_job, tmp_path):
    fill(tmp_path, "folder/x", "elsewhere/train.parquet")
    (tmp_path / "folder" / "glue_mrpc").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JobError, match="leads out of its folder"):
        stage(write_job(tasks=["glue_mrpc"], data_dir="folder"))


def test_links_within_a_folder_and_to_nothing_that_is_read_are_fine(write_job, tmp_path):
    fill(tmp_path, "folder/real.safetensors", "secret/id_rsa")
    (tmp_path / "folder" / "model.safetensors").symlink_to("real.safetensors")
    (tmp_path / "folder" / "key").symlink_to(tmp_path / "secret" / "id_rsa")
    staged = stage(write_job(backbone="folder"))
    assert not any("key" in name for name in staged.uploads)
    assert "adaptune_data/backbone/model.safetensors" in staged.uploads


def test_a_pipe_in_a_folder_is_not_waited_for(write_job, tmp_path):
    fill(tmp_path, "folder/config.json")
    os.mkfifo(tmp_path / "folder" / "vocab.txt")
    staged = stage(write_job(backbone="folder"))
    assert "adaptune_data/backbone/vocab.txt" not in staged.uploads


def test_what_travels_is_listed_with_its_sizes(write_job, tmp_path):
    fill(tmp_path, *(f"folder/ham/{number}.txt" for number in range(30)))
    files = {"train": "folder", "test": "data/train.csv"}
    job, *lines = stage(write_job(tasks=[{"name": "mine", "files": files}])).describe()
    assert job.endswith(f"bytes, from {tmp_path / 'job.yaml'}")
    assert f"{tmp_path / 'data' / 'train.csv'}: 15 bytes" in lines
    size = sum(path.stat().st_size for path in (tmp_path / "folder").rglob("*.txt"))
    assert f"{tmp_path / 'folder' / 'ham'}/: 30 files, {size} bytes" in lines


def test_the_storage_given_takes_the_place_of_the_files_own(write_job):
    staged = stage(write_job(storage="runs"), storage=CLUSTER_STORAGE)
    assert staged_content(staged)["storage"] == staged.storage == CLUSTER_STORAGE


def test_all_problems_are_told_together(write_job, monkeypatch):
    monkeypatch.setattr(staging, "LIMIT_BYTES", 3)
    files = {"train": "data/train.csv", "test": "data/no.csv"}
    with pytest.raises(JobError) as error:
        stage(write_job(storage="runs", tasks=[{"name": "mine", "files": files}]))
    found = problems(error)
    assert set(found) == {"storage", "tasks[0].files.test", "uploads"}
    assert "absolute path that every node sees" in found["storage"].fix
    assert "Copy it under the storage" in found["uploads"].fix


@pytest.mark.parametrize("uri", ["s3://AKIA:hunter2@bucket/runs", "s3://bucket/runs?secret_key=hunter2"])
def test_credentials_in_the_storage_are_refused_and_not_repeated(write_job, uri):
    job = write_job(storage=uri, database="postgresql://db/adaptune", tracking={"uri": "http://head:5000"})
    with pytest.raises(JobError, match="holds credentials") as error:
        stage(job)
    assert "hunter2" not in str(error.value)


def test_an_object_store_needs_an_mlflow_server(write_job):
    with pytest.raises(JobError) as error:
        stage(write_job(storage="s3://bucket/runs", database="postgresql://db/adaptune"))
    assert set(problems(error)) == {"tracking.uri"}


@pytest.fixture
def no_token(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


def test_the_token_is_looked_for_in_rays_order(no_token, monkeypatch):
    assert find_token() is None
    (no_token / ".ray").mkdir()
    (no_token / ".ray" / "auth_token").write_text("from-home\n")
    assert find_token() == ("from-home", "~/.ray/auth_token")
    (no_token / "other").write_text("from-path")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(no_token / "other"))
    assert find_token() == ("from-path", "RAY_AUTH_TOKEN_PATH")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "from-variable")
    assert find_token() == ("from-variable", "RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert find_token() is None


@pytest.mark.parametrize(("mode", "told"), [(0o600, False), (0o400, False), (0o644, True), (0o640, True)])
@pytest.mark.parametrize("named", [True, False])
def test_a_token_that_others_may_read_is_told_of(no_token, monkeypatch, logged, mode, told, named):
    file = no_token / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("the-token")
    file.chmod(mode)
    if named:
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    assert find_token()
    assert (f"chmod 600 {file}" in "\n".join(logged)) is told
    assert "the-token" not in "\n".join(logged)


@pytest.fixture
def shared_folder():
    """A folder that other users may enter, as pytest's own may not be."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("session", "above", "found"),
    [(0o777, 0o755, True), (0o1777, 0o755, False), (0o777, 0o700, False), (0o755, 0o755, False)],
)
def test_a_session_folder_that_is_open_to_all_is_noticed(shared_folder, session, above, found):
    working = shared_folder / "ray" / "session" / "working_dir"
    working.mkdir(parents=True)
    (shared_folder / "ray").chmod(above)
    (shared_folder / "ray" / "session").chmod(session)
    assert find_open_folder(working) == (shared_folder / "ray" / "session" if found else None)


def submitted(name, status, start, number="0001"):
    return JobDetails(
        type=JobType.SUBMISSION,
        submission_id=f"adaptune-{name}-{number}",
        status=status,
        start_time=start,
        metadata={"adaptune_job": name, "storage": "/mnt"},
        entrypoint="adaptune",
    )


class Jobs:
    """A cluster's list of jobs, and nothing else."""

    def __init__(self, *jobs):
        self.list_jobs = lambda: list(jobs)


def test_a_job_is_shown_by_the_submission_that_runs():
    jobs = Jobs(
        submitted("a", "RUNNING", 1),
        submitted("a", "FAILED", 2, "0002"),
        submitted("b", "STOPPED", 1),
        submitted("b", "SUCCEEDED", 2, "0002"),
    )
    assert [(job.name, job.state) for job in cluster._jobs(jobs)] == [("a", "running"), ("b", "finished")]


LAST = "[1:05] a/a/adapter trial 3: epochs=4 -> 0.9100 (best 0.9100; 4/18 done; trials per pass: 8)"


@pytest.mark.parametrize(("state", "shown"), [("RUNNING", [LAST]), ("SUCCEEDED", [])])
def test_status_shows_the_last_line_of_a_driver_that_runs(monkeypatch, capsys, state, shown):
    jobs = Jobs(submitted("a", state, 1))
    jobs.get_job_logs = lambda _: f"[0:00] a: reading the data\n{LAST}\n\n"
    monkeypatch.setattr(remote, "_connect", lambda *_: jobs)
    show_status("a", "http://head:8265")
    assert capsys.readouterr().out.splitlines()[1:] == shown


def test_status_shows_a_job_whose_driver_has_said_nothing_yet(monkeypatch, capsys):
    jobs = Jobs(submitted("a", "PENDING", 1))
    jobs.get_job_logs = lambda _: ""
    monkeypatch.setattr(remote, "_connect", lambda *_: jobs)
    show_status("a", "http://head:8265")
    assert capsys.readouterr().out.splitlines() == ["a: pending (adaptune-a-0001), storage /mnt"]


class Cluster(Jobs):
    """A cluster whose nodes are fine but for what they warn of, and which takes every job."""

    def __init__(self, monkeypatch, *warnings, answers_anyone=False):
        super().__init__(submitted("tickets", "STOPPED", 1))
        report = json.dumps({"warnings": warnings, "findings": []}).encode()
        response = requests.Response()
        response.status_code = 200 if answers_anyone else 401
        self.asked = []

        def get(url, **options):
            self.asked.append((url, options.get("headers")))
            return response

        monkeypatch.setattr(remote, "_connect", lambda *_: self)
        monkeypatch.setattr(remote.requests, "get", get)
        monkeypatch.setattr(cluster, "call", lambda *_, **__: report)

    def get_address(self):
        return "http://head:8265"

    def submit_job(self, submission_id, **_):
        return submission_id


DOORS = pytest.mark.parametrize(
    "door",
    [
        lambda job: cluster.submit(stage(job), address="http://head:8265"),
        lambda _: cluster.resume("tickets", address="http://head:8265"),
    ],
    ids=["submit", "resume"],
)


@DOORS
@pytest.mark.usefixtures("no_token")
def test_what_the_nodes_warn_of_is_told_before_a_job_starts(write_job, monkeypatch, logged, door):
    Cluster(monkeypatch, "Other users of box-1 can run code.", "Of box-2, too.")
    door(write_job())
    assert logged == ["Other users of box-1 can run code.", "Of box-2, too."]


@DOORS
@pytest.mark.parametrize("answers_anyone", [True, False])
@pytest.mark.usefixtures("no_token")
def test_a_cluster_that_answers_without_a_token_is_warned_of_whoever_has_one(
    write_job, monkeypatch, logged, door, answers_anyone
):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "ours")
    head = Cluster(monkeypatch, answers_anyone=answers_anyone)
    door(write_job())
    assert ("whoever reaches http://head:8265 can run code on it" in "\n".join(logged)) is answers_anyone
    assert ("RAY_AUTH_MODE=token" in "\n".join(logged)) is answers_anyone
    assert head.asked == [("http://head:8265/api/jobs/", None)]


def test_submissions_are_numbered_so_that_two_at_once_have_one_number():
    ends = ("0001", "0007", "1f9a00b2")  # the last as earlier versions have it
    jobs = Jobs(*(submitted("a", "FAILED", start, end) for start, end in enumerate(ends)))
    assert cluster._next_number(jobs, "a") == 8
    assert cluster._next_number(jobs, "b") == 1


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("RAY_AUTH_MODE", "token", "there is no token"),
        ("RAY_AUTH_TOKEN_PATH", "/not/here", "cannot be read"),
    ],
)
@pytest.mark.usefixtures("no_token")
def test_a_token_that_is_asked_for_and_not_there_is_refused(monkeypatch, variable, value, message):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=message):
        find_token()


@pytest.mark.parametrize("address", ["ray://head:10001", "", "http://me:secret@head:8265"])
def test_an_address_that_is_no_dashboard_is_refused(address):
    with pytest.raises(UserError, match="is not a dashboard's"), contact(address):
        pass


@pytest.mark.usefixtures("no_token")
def test_the_address_given_beats_rays_variables_and_nobody_there_is_told(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:2")
    nobody = r"No Ray dashboard answers at http://127\.0\.0\.1:1 "
    with pytest.raises(UserError, match=nobody), contact("http://127.0.0.1:1"):
        pass


@pytest.mark.usefixtures("no_token")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_asked_directly_whatever_proxy_is_set(monkeypatch, host):
    monkeypatch.setenv("http_proxy", "http://me:secret@proxy.invalid:3128")
    monkeypatch.setenv("no_proxy", "example.org")
    monkeypatch.setattr(remote, "_connect", lambda address, _: requests.utils.get_environ_proxies(address))
    with contact(f"{host}:8265") as proxies:
        assert proxies == {}
    assert os.environ["no_proxy"] == "example.org"


@pytest.mark.usefixtures("no_token")
def test_a_proxy_that_is_in_the_way_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:1")
    with pytest.raises(UserError, match="No Ray dashboard answers") as error, contact("http://head:8265"):
        pass
    assert "the proxy of http_proxy: with no_proxy=head it is asked directly" in str(error.value)
    assert "secret" not in str(error.value)
    monkeypatch.setenv("no_proxy", "head")
    assert remote._describe_proxy("http", "head") == ""


def test_what_ray_itself_refuses_is_told_as_the_clusters_failure(monkeypatch):
    monkeypatch.setattr(remote, "_connect", lambda *_: object())
    with pytest.raises(RemoteError, match="status code 500"), contact("http://head:8265"):
        raise RuntimeError("Request failed with status code 500")


def test_a_job_is_not_resumed_in_a_relative_storage():
    with pytest.raises(UserError, match="absolute path that every node sees"):
        cluster.resume("tickets", address="http://head:8265", storage="runs")


@pytest.mark.parametrize("size", [0, 1, 3000, 100_000])
def test_a_reply_survives_between_other_lines_of_a_log(size):
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    lines = [noisy for line in encode(payload, "n0nce") for noisy in ("INFO something", line)]
    assert decode("\n".join(lines), "n0nce") == payload


def test_a_reply_that_is_cut_or_changed_is_refused():
    lines = list(encode(b"0123456789" * 1000, "n0nce"))
    for damaged in (lines[:-1], lines[1:], []):
        with pytest.raises(RemoteError, match="incomplete or damaged"):
            decode("\n".join(damaged), "n0nce")


@pytest.mark.parametrize("log", ["No module named search.probe", "sh: 1: python: not found"])
def test_a_head_without_adaptune_is_told_how_to_get_it(log):
    assert "Install it on every node" in remote._explain("probe", JobStatus.FAILED, None, log)


def packed(*members):
    """A gzipped tar of (name, content) and of ready-made members, as a cluster might send it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for made in members:
            if isinstance(made, tarfile.TarInfo):
                archive.addfile(made)
                continue
            member = tarfile.TarInfo(made[0])
            member.size = len(made[1])
            archive.addfile(member, io.BytesIO(made[1]))
    return buffer.getvalue()


def link(name, target, kind=tarfile.SYMTYPE):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def sparse(name, size):
    """A file of nothing but a hole, as GNU tar may write it: a few bytes of archive for any size."""
    made = tarfile.TarInfo(name)
    made.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": f"{size},0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(size),
    }
    return made


def test_a_bundles_files_are_unpacked(tmp_path):
    files = {"config.json": b"{}", "adapter.safetensors": b"x" * 100_000, "README.md": b""}
    unpack(packed(*files.items()), tmp_path / "inside")
    assert {path.name: path.read_bytes() for path in (tmp_path / "inside").iterdir()} == files


@pytest.mark.parametrize(
    "member",
    [
        ("../outside", b"evil"),
        ("/outside", b"evil"),
        ("folder/config.json", b"evil"),
        ("./config.json", b"evil"),
        (".bashrc", b"evil"),
        link("config.json", "/etc/passwd"),
        link("config.json", "../secret", tarfile.LNKTYPE),
        link("config.json", "", tarfile.FIFOTYPE),
        link("README.md", "", tarfile.CHRTYPE),
        link("README.md", "", tarfile.DIRTYPE),
        sparse("README.md", 20_000_000),
        sparse("config.json", 1000),
        ("config.json", bytes(BUNDLE_FILES["config.json"] + 1)),
    ],
)
def test_nothing_but_plain_files_of_a_bundle_is_unpacked(tmp_path, member):
    with pytest.raises(RemoteError, match="is no file of a bundle"):
        unpack(packed(member), tmp_path / "inside")
    assert list(tmp_path.rglob("*")) == [tmp_path / "inside"]


def test_a_file_that_comes_twice_is_refused(tmp_path):
    with pytest.raises(RemoteError, match="cannot be unpacked"):
        unpack(packed(("config.json", b"1"), ("config.json", b"2")), tmp_path)


@pytest.mark.parametrize("name", ["adapter.safetensors", "x" * 9_000_000], ids=["content", "name"])
def test_an_archive_is_unpacked_to_a_limit_only(tmp_path, monkeypatch, name):
    monkeypatch.setattr(remote, "UNPACKED_LIMIT_BYTES", 1_000_000)
    payload = packed((name, bytes(9_000_000)))
    assert len(payload) < 100_000
    with pytest.raises(RemoteError, match="more than 1 MB unpacked"):
        unpack(payload, tmp_path / "inside")
    assert sum(path.stat().st_size for path in (tmp_path / "inside").iterdir()) <= 1_000_000


@pytest.mark.parametrize(
    "payload",
    [b"", b"no archive", packed(("config.json", b"x" * 5000))[:-40]],
    ids=["nothing", "no archive", "cut short"],
)
def test_a_damaged_archive_is_refused(tmp_path, payload):
    with pytest.raises(RemoteError, match="cannot be unpacked"):
        unpack(payload, tmp_path)


@pytest.mark.parametrize("name", ["../../.config/autostart", "/abs/x", "a/b", "..", "", "x\x1b[2J", 3, None])
def test_results_with_a_name_that_no_job_file_may_give_are_refused(name):
    for wrong in (
        {"job": name, "tasks": []},
        {"job": "a", "tasks": [{"task": name, "method": "adapter"}]},
        {"job": "a", "tasks": [{"task": "b", "method": name}]},
    ):
        with pytest.raises(RemoteError, match="a name that cannot be"):
            parse_results(json.dumps(wrong))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"job": "a", "tasks": 3}', "[" * 100_000, '{"job":"a","tasks":[1]}']
)
def test_results_that_are_none_are_refused(text):
    with pytest.raises(RemoteError, match="cannot be read"):
        parse_results(text)


def test_a_database_that_cannot_be_reached_does_not_tell_its_password():
    uri = "postgresql+nodriver://user:p%40ss@host/db"
    with pytest.raises(Exception, match="nodriver") as error:
        reach_database(uri)
    assert "p%40ss" not in hide_secrets(str(error.value), uri)
    assert hide_secrets("p@ss is wrong for p%40ss", uri) == "*** is wrong for ***"


def test_the_kept_copy_of_a_job_file_is_for_its_owner(write_job, tmp_path):
    job = write_job(storage=str(tmp_path / "runs"))
    kept = staging.keep_submission(job)
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_remote_command_replies_with_its_output_and_exit_code(tmp_path, monkeypatch):
    command = tmp_path / "adaptune"
    command.write_text('#!/bin/sh\necho "got $*"\necho wrong >&2\nexit 2\n')
    command.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert run(["results", "a b"]) == {"exit_code": 2, "stdout": "got results a b\n", "stderr": "wrong\n"}


@pytest.fixture
def aws_cluster():
    with (Path(__file__).parents[3] / "ray_cluster.yaml").open() as file:
        return YAML(typ="safe", pure=True).load(file)


def test_ray_takes_the_cluster_file(aws_cluster):
    prepared = prepare_config(aws_cluster)
    validate_config(prepared)
    assert prepared["available_node_types"]["gpu_worker"]["min_workers"] == 0
    assert prepared["head_node_type"] == "head"


@pytest.mark.parametrize("key", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_every_node_of_the_cluster_file_asks_for_the_token(aws_cluster, key):
    starts = [command for command in aws_cluster[key] if "ray start" in command]
    assert len(starts) == 1
    assert "export RAY_AUTH_MODE=token" in starts[0]
    assert "install -d -m 700 ~/.ray; ray start" in starts[0]  # closed to other users of the node
    assert "--temp-dir=$HOME/.ray/s" in starts[0]
    assert aws_cluster["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"


def test_nothing_of_the_head_listens_to_the_world(aws_cluster):
    commands = " ".join(aws_cluster["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in commands
    assert "mlflow server --host 127.0.0.1" in commands
    assert "0.0.0.0" not in commands  # noqa: S104 - it must not be there
