"""Against a real head node with a token: what is checked before a job starts, and the life of a job."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from search.cluster import jobs as cluster
from search.cluster.remote import contact, fetch_folder, run_remote
from search.cluster.staging import stage
from search.errors import JobError, RemoteError, UserError
from search.wire import DATABASE_FILE, version

pytestmark = pytest.mark.integration

DRIVER = """
import pathlib, sys, time
print("ARGUMENTS", *sys.argv[1:], flush=True)
if sys.argv[1] == "run":
    print(pathlib.Path("adaptune_data/files/0/train/train.csv").read_text(), flush=True)
while not pathlib.Path(sys.argv[0] or ".", "{flag}").exists():
    time.sleep(0.1)
print("the last line")
"""


@pytest.fixture(autouse=True)
def token(ray_cluster, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(ray_cluster.token_file))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)


@pytest.fixture
def write_job(ray_cluster, tmp_path):
    def write(**changes):
        (tmp_path / "train.csv").write_text("text,label\nuploaded rows,b\n")
        content = {
            "name": "tickets",
            "backbone": "bert-base-uncased",
            "tasks": [{"name": "mine", "files": {"train": "train.csv"}}],
            "storage": str(ray_cluster.folder / "storage"),
            **changes,
        }
        path = tmp_path / "job.yaml"
        with path.open("w") as file:
            YAML().dump(content, file)
        return path

    return write


@pytest.fixture
def slow_driver(tmp_path, monkeypatch):
    """In place of `adaptune`: tells its arguments and the data it finds, and ends when a file appears."""
    flag = tmp_path / "end"
    monkeypatch.setattr(cluster, "COMMAND", ("python", "-c", DRIVER.format(flag=flag)))
    return flag


def wait_for_log(name, address, text):
    deadline = time.monotonic() + 60
    while text not in (log := "".join(cluster.logs(name, address))):
        assert time.monotonic() < deadline, log
        time.sleep(0.2)


def test_the_probe_finds_nothing_wrong_and_leaves_nothing_behind(ray_cluster, write_job):
    staged = stage(write_job())
    with contact(ray_cluster.address) as client:
        assert cluster.check_cluster(client, staged.storage, locations=staged.locations) == []
    assert list(Path(staged.storage).iterdir()) == []


def test_everything_that_the_cluster_lacks_is_told_together(ray_cluster, write_job):
    ray_cluster.folder.joinpath("file").touch()
    job = write_job(
        storage=str(ray_cluster.folder / "file" / "storage"),
        backbone="package:no_such_package/model",
        tasks=[{"name": "mine", "files": {"train": "/not/there.csv"}}],
        database="sqlite:////not/there/studies.db",
        tracking={"uri": "http://127.0.0.1:1"},
    )
    with pytest.raises(JobError) as error:
        cluster.submit(stage(job), address=ray_cluster.address)
    rules = {problem.key: problem.rule for problem in error.value.problems}
    assert set(rules) == {"storage", "backbone", "tasks[0].files.train", "database", "tracking.uri"}
    assert "Not a directory" in rules["storage"]
    assert "no package 'no_such_package' is installed" in rules["backbone"]
    assert "does not exist" in rules["tasks[0].files.train"]
    assert cluster.list_jobs(ray_cluster.address) == []


def test_another_version_on_the_cluster_is_refused(ray_cluster, write_job, monkeypatch):
    monkeypatch.setattr(cluster, "version", lambda: "99.0")
    with pytest.raises(JobError, match=f"'{version()}': is installed, and 99.0 where you submit from"):
        cluster.submit(stage(write_job()), address=ray_cluster.address)


@pytest.mark.parametrize(
    ("mode", "message"),
    [("token", r"refuses the token from RAY_AUTH_TOKEN \(403\)"), ("disabled", r"asks for a token \(401\)")],
)
def test_a_wrong_or_missing_token_is_explained_and_not_repeated(ray_cluster, monkeypatch, mode, message):
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a-wrong-token")
    message = (
        r"refuses the token from RAY_AUTH_TOKEN \(403\)" if mode == "token" else r"asks for a token \(401\)"
    )
    with pytest.raises(UserError, match=message) as error:
        cluster.list_jobs(ray_cluster.address)
    assert "a-wrong-token" not in str(error.value)


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")  # Ray's own call of aiohttp
def test_a_job_is_submitted_followed_refused_twice_and_resumed(ray_cluster, write_job, slow_driver):
    address = ray_cluster.address
    job = write_job()
    submission = cluster.submit(stage(job), address=address)
    wait_for_log("tickets", address, "uploaded rows")
    assert cluster.status("tickets", address).state == "running"
    with pytest.raises(UserError, match=r"already running.*adaptune stop tickets"):
        cluster.submit(stage(job), address=address)

    stopped = cluster.stop("tickets", address)
    assert (stopped.submission_id, stopped.state) == (submission, "interrupted")
    with pytest.raises(UserError, match="is not running"):
        cluster.stop("tickets", address)

    assert cluster.resume("tickets", address=address) != submission
    wait_for_log("tickets", address, f"ARGUMENTS resume tickets --storage {stopped.storage} --cluster")
    slow_driver.touch()
    log = "".join(cluster.logs("tickets", address, follow=True))
    assert log == "".join(cluster.logs("tickets", address))
    assert log.endswith("the last line\n")
    assert [found.name for found in cluster.list_jobs(address)] == ["tickets"]
    with pytest.raises(UserError, match=r"knows no job 'ticket'\. Its jobs: tickets\."):
        cluster.status("ticket", address)


def test_a_bundle_is_fetched_byte_for_byte(ray_cluster, tmp_path):
    there = ray_cluster.folder / "bundle"
    (there / "nested").mkdir(parents=True)
    (there / "id_rsa").write_text("secret")
    (there / "adapter.safetensors").write_bytes(bytes(range(256)) * 4000)
    (there / "README.md").write_text("größe\n")
    fetch_folder(str(there), tmp_path / "here", address=ray_cluster.address)
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"adapter.safetensors", "README.md"}
    for name in ("adapter.safetensors", "README.md"):
        assert (tmp_path / "here" / name).read_bytes() == (there / name).read_bytes()


def test_of_two_that_submit_a_job_at_the_same_moment_one_is_refused(
    ray_cluster, write_job, slow_driver, monkeypatch
):
    """Both have seen that nothing runs before either submits."""
    address, both = ray_cluster.address, threading.Barrier(2, timeout=60)
    number = cluster._next_number

    def wait_for_the_other(*arguments):
        both.wait()
        return number(*arguments)

    monkeypatch.setattr(cluster, "_next_number", wait_for_the_other)
    staged = stage(write_job(name="twice"))
    with ThreadPoolExecutor(2) as pool:
        tries = [pool.submit(cluster.submit, staged, address=address) for _ in range(2)]
    errors = [made.exception() for made in tries]
    (accepted,) = [made.result() for made, error in zip(tries, errors, strict=True) if error is None]
    (refused,) = [error for error in errors if error]
    assert isinstance(refused, UserError), refused
    assert "adaptune logs twice" in str(refused)
    running = cluster.status("twice", address)
    assert (running.submission_id, running.is_live) == (accepted, True)
    slow_driver.touch()


def test_a_databases_password_shows_in_no_job_and_no_log(ray_cluster, slow_driver, monkeypatch):
    address, storage = ray_cluster.address, str(ray_cluster.folder / "storage")
    read = "import pathlib, sys; print('GOT', len(pathlib.Path(sys.argv[-1][1:]).read_text()), flush=True)"
    monkeypatch.setattr(cluster, "COMMAND", ("python", "-c", read))
    monkeypatch.setattr(cluster, "check_cluster", lambda *_, **__: [])  # there is no such database
    uri = "postgresql://bob:hunter2@127.0.0.1:1/runs"
    cluster.resume("secretive", address=address, storage=storage, database=uri)
    wait_for_log("secretive", address, f"GOT {len(uri)}")
    with pytest.raises((UserError, RemoteError)) as error:
        run_remote(
            ["results", "secretive", "--storage", storage, "--database", f"@{DATABASE_FILE}"],
            address=address,
            files={DATABASE_FILE: uri},
        )
    assert "hunter2" not in str(error.value)
    with contact(address) as client:
        for job in client.list_jobs():
            shown = json.dumps(job.model_dump(mode="json")) + client.get_job_logs(job.submission_id)
            assert "hunter2" not in shown


def test_a_folder_that_is_not_there_is_told(ray_cluster, tmp_path):
    with pytest.raises(RemoteError, match="cannot be read as a folder on the cluster"):
        fetch_folder("/not/there", tmp_path / "here", address=ray_cluster.address)


def test_a_command_runs_on_the_cluster_and_its_exit_code_counts(ray_cluster):
    assert "glue_cola" in run_remote(["tasks"], address=ray_cluster.address)
    with pytest.raises(UserError, match="on the cluster at"):
        run_remote(
            ["results", "no-such-job", "--storage", str(ray_cluster.folder)], address=ray_cluster.address
        )


def test_a_node_whose_folder_is_open_to_all_is_told_of_and_a_head_that_asks_for_a_token_is_not(
    ray_cluster, logged
):
    node = ray_cluster.add_node(cpus=1)
    node.state.chmod(0o755)
    with contact(ray_cluster.address) as client:
        assert cluster.check_cluster(client, str(ray_cluster.folder / "storage")) == []
    (warning,) = logged
    assert f"{node.node_id[:6]}) can run code as this job's owner" in warning
    assert f"Ray unpacks jobs under {node.state.resolve()}" in warning
    assert warning.count("(") == 2  # of one node alone, and of the documentation


def test_the_token_shows_in_no_job_and_no_log(ray_cluster):
    token = ray_cluster.token_file.read_text()
    with contact(ray_cluster.address) as client:
        for job in client.list_jobs():
            shown = json.dumps(job.model_dump(mode="json")) + client.get_job_logs(job.submission_id)
            assert token not in shown
