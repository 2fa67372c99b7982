"""One contract for both forms of a storage: a folder, and a URI (file://, the one that needs no server)."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url
from studies import create
from users import enterable_folder, kept_out

from search.addresses import storage_problem
from search.cli.results import _fetch_results
from search.cli.terminal import open_storage
from search.cli.ui import ui
from search.cluster import jobs as cluster
from search.errors import JobError, UserError
from search.job.job import SearchJob
from search.results import open_record
from search.storage import Storage, bundle_key, checkpoint_key
from search.study import Record

KEY = "job/checkpoints/task/adapter/00000.safetensors"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "my runs" / "all"


@pytest.fixture(params=["folder", "uri"])
def storage(request, folder):
    return Storage(str(folder) if request.param == "folder" else folder.as_uri())


@pytest.fixture
def bundle(tmp_path):
    """A local folder with a bundle's files, as far as a storage looks at them."""
    source = tmp_path / "bundle"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / "adapter.safetensors").write_bytes(b"\x00\x01")
    return source


def content(folder):
    """All files under a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def test_what_is_written_is_read(storage):
    storage.write(KEY, b"first")
    assert storage.read(KEY) == b"first"
    storage.write(KEY, b"2")
    assert storage.read(KEY) == b"2"


def test_what_is_not_there_reads_as_none(storage):
    assert storage.read(KEY) is None
    storage.write("other", b"")
    assert storage.read(KEY) is None
    assert storage.read("other") == b""


def test_a_write_leaves_the_file_and_nothing_else(storage, folder):
    storage.write(KEY, b"data")
    assert content(folder) == {KEY: b"data"}


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(storage, folder, monkeypatch, step):
    storage.write(KEY, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(step, fail)
    with pytest.raises(OSError, match="No space left"):
        storage.write(KEY, b"new content")
    assert content(folder) == {KEY: b"old"}


def test_a_first_write_that_fails_leaves_nothing(storage, folder, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        storage.write(KEY, b"new content")
    assert storage.read(KEY) is None
    assert content(folder) == {}


def test_readers_see_the_old_content_or_the_new_one(storage, folder, monkeypatch):
    storage.write(KEY, b"old")
    seen = []
    replace = Path.replace

    def look_first(self, target):
        seen.append(storage.read(KEY))
        return replace(self, target)

    monkeypatch.setattr("pathlib.Path.replace", look_first)
    storage.write(KEY, b"new")
    assert seen == [b"old"]
    assert storage.read(KEY) == b"new"


def test_a_file_or_a_folder_can_be_deleted_and_deleting_what_is_gone_is_fine(storage, folder):
    for key in ("job/a/1", "job/a/2", "job/b"):
        storage.write(key, b"x")
    storage.delete("job/b")
    storage.delete("job/a")
    storage.delete("job/a")
    storage.delete("never/there")
    assert content(folder) == {}
    storage.write("file", b"x")
    storage.delete("file/in/a/file")
    assert content(folder) == {"file": b"x"}


def test_an_uploaded_folder_can_be_fetched(storage, bundle, tmp_path):
    storage.upload(bundle, "job/bundles/task/adapter")
    storage.fetch(storage.uri("job/bundles/task/adapter"), tmp_path / "out" / "task")
    assert content(tmp_path / "out" / "task") == content(bundle)
    assert storage.read("job/bundles/task/adapter/config.json") == b"{}"


def test_only_a_bundles_own_files_are_fetched(storage, bundle, tmp_path):
    (bundle / "id_rsa").write_text("secret")
    (bundle / "parts").mkdir()
    storage.upload(bundle, "job/bundles/task/adapter")
    storage.fetch(storage.uri("job/bundles/task/adapter"), tmp_path / "out")
    assert set(content(tmp_path / "out")) == {"config.json", "adapter.safetensors"}


@pytest.mark.parametrize("make", ["link", "pipe", "folder"])
def test_what_is_no_plain_file_of_a_bundle_is_not_fetched(storage, bundle, folder, tmp_path, make):
    storage.upload(bundle, "bundles/task")
    weights = folder / "bundles" / "task" / "adapter.safetensors"
    weights.unlink()
    if make == "link":
        (tmp_path / "secret").write_text("secret")
        weights.symlink_to(tmp_path / "secret")
    elif make == "pipe":
        os.mkfifo(weights)
    else:
        weights.mkdir()
    with pytest.raises(UserError, match=r"adapter\.safetensors is .*A bundle has plain files only"):
        storage.fetch(storage.uri("bundles/task"), tmp_path / "out")
    assert set(content(tmp_path / "out")) <= {"config.json"}


def test_an_upload_takes_the_place_of_what_was_there(storage, bundle, folder):
    storage.write("bundles/task/left-over", b"of an earlier upload")
    storage.write("bundles/task2/config.json", b"a neighbour")
    storage.upload(bundle, "bundles/task")
    assert content(folder / "bundles" / "task") == content(bundle)
    assert content(folder / "bundles" / "task2") == {"config.json": b"a neighbour"}


def test_an_upload_that_fails_leaves_what_was_there(storage, bundle, folder, monkeypatch):
    storage.write("bundles/task/config.json", b"old")

    def fail(source, target):
        Path(target).touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", fail)
    with pytest.raises(OSError, match="No space left"):
        storage.upload(bundle, "bundles/task")
    assert content(folder) == {"bundles/task/config.json": b"old"}


def test_an_upload_does_not_stumble_over_one_that_was_killed(storage, bundle, folder):
    storage.write("bundles/.staged-task/half", b"of a killed process")
    storage.upload(bundle, "bundles/task")
    assert content(folder / "bundles") == {f"task/{name}": data for name, data in content(bundle).items()}


def test_fetching_what_is_not_there_fails_and_makes_no_folder(storage, tmp_path):
    storage.prepare()
    with pytest.raises(FileNotFoundError, match="bundles/task"):
        storage.fetch(storage.uri("bundles/task"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_preparing_makes_the_root_and_leaves_no_trace_in_it(storage, folder):
    storage.prepare()
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


def test_a_storage_under_a_regular_file_is_refused_by_name(storage, folder):
    folder.parent.parent.mkdir(exist_ok=True)
    folder.parent.write_text("I am a file")
    with pytest.raises(UserError) as error:
        storage.prepare()
    assert storage.root in str(error.value)
    assert "--storage" in str(error.value)


def test_a_storage_that_is_a_regular_file_is_refused_by_name(storage, folder):
    folder.parent.mkdir(parents=True)
    folder.write_text("I am a file")
    with pytest.raises(UserError, match="cannot be written"):
        storage.prepare()


def test_a_kind_of_uri_that_no_one_knows_is_refused_by_name():
    with pytest.raises(UserError, match="gopher://bucket/runs"):
        Storage("gopher://bucket/runs").prepare()


def test_a_folder_keeps_studies_and_runs_beside_each_other():
    storage = Storage("/mnt/shared/runs")
    assert storage.is_folder
    assert storage.database_url == "sqlite:////mnt/shared/runs/studies.db"
    assert storage.tracking_uri == "sqlite:////mnt/shared/runs/mlflow.db"
    assert storage.artifacts == "/mnt/shared/runs/mlartifacts"
    assert storage.path("job/job.json") == Path("/mnt/shared/runs/job/job.json")
    assert storage.uri("a/b") == "/mnt/shared/runs/a/b"


@pytest.fixture
def umask():
    """Sets the umask for one test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(
    ("mask", "file", "directory"), [(0o022, 0o644, 0o755), (0o002, 0o664, 0o775), (0o077, 0o600, 0o700)]
)
def test_the_umask_decides_who_may_read_a_storage(tmp_path, umask, mask, file, directory):
    umask(mask)
    source = Path(tempfile.mkdtemp(dir=tmp_path))  # as a bundle is made: for its maker alone
    (source / "config.json").write_text("{}")
    (source / "config.json").chmod(0o600)
    storage = Storage(str(tmp_path / "runs"))
    storage.write("job/job.json", b"{}")
    storage.upload(source, "job/bundles/task/adapter")
    Record(storage).close()
    for path in (tmp_path / "runs").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (directory if path.is_dir() else file), path


def test_what_is_private_is_for_its_owner_whatever_the_umask(tmp_path, umask):
    umask(0)
    Storage(str(tmp_path)).write("secret", b"x", private=True)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_bundle_that_may_not_be_read_is_told_with_what_to_do(storage, bundle, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    storage.upload(bundle, "bundles/task")
    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(UserError, match="may not be read by this user"):
        storage.fetch(storage.uri("bundles/task"), tmp_path / "out")


@pytest.fixture
def refused():
    """A storage of somebody else with a study file and a bundle, and what closes a part of it to us."""
    with enterable_folder() as folder:
        (folder / "bundles" / "task").mkdir(parents=True)
        for name in ("studies.db", "mlflow.db"):
            (folder / name).touch()

        @contextlib.contextmanager
        def close(part):
            (folder / part).chmod(0)
            with kept_out():
                yield Storage(str(folder))
            (folder / part).chmod(0o700)

        yield close


@pytest.mark.parametrize("part", ["", "studies.db"])
def test_studies_that_may_not_be_read_are_named_with_what_to_do(refused, part):
    with refused(part) as storage, pytest.raises(UserError) as told:
        open_record(storage)
    assert str(told.value).startswith(f"{storage.root}/studies.db may not be read by this user.")
    assert "docs/cluster.md says under Several users" in str(told.value)


@pytest.mark.parametrize("part", ["", "mlflow.db"])
def test_an_mlflow_that_may_not_be_read_is_named(refused, part):
    with refused(part) as storage, pytest.raises(UserError, match=r"mlflow\.db may not be read by this user"):
        ui(storage.root)


@pytest.mark.parametrize("part", ["", "bundles"])
def test_a_folder_of_bundles_that_may_not_be_read_is_named(refused, part, tmp_path):
    with (
        refused(part) as storage,
        pytest.raises(UserError, match="bundles/task may not be read by this user"),
    ):
        storage.fetch(storage.uri("bundles/task"), tmp_path / "out")


ODD_NAMES = ("a?b", "x%2Fy", "100%", "p#q", "{z}", "a?b=c&d#e%20f", "sp ace", "naïve", "a:b@c", "plus+plus")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_storages_studies_lie_in_it_whatever_its_path(tmp_path, name):
    (tmp_path / name).mkdir()
    storage = Storage(str(tmp_path / name))
    with Record(storage) as record:
        create(record)
    with open_record(storage) as record:
        assert list(record.jobs()) == ["job"]
    assert (tmp_path / name / "studies.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_relative_database_lies_in_the_working_directory_whatever_its_path(tmp_path, name, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    raw = {"name": "a", "backbone": "b", "tasks": ["glue_cola"], "database": "sqlite:///mine.db"}
    job = SearchJob.parse(raw)
    assert make_url(job.database).database == str(tmp_path / name / "mine.db")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_storage_by_its_uri_is_the_same_folder_whatever_its_path(tmp_path, name):
    Storage((tmp_path / name).as_uri()).write("key", b"data")
    assert (tmp_path / name / "key").read_bytes() == b"data"
    assert Storage(str(tmp_path / name)).read("key") == b"data"


@pytest.mark.parametrize(
    "location", ["my_store://bucket/x", "S3://bucket/x", "s3:/bucket", "dbfs:/mnt", "http://x/y"]
)
def test_a_storage_of_an_unknown_kind_is_no_folder(tmp_path, location, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = {"name": "a", "backbone": "b", "tasks": ["glue_cola"], "storage": location}
    with pytest.raises(JobError, match=r"no storage is known by .*one of s3://, gs://"):
        SearchJob.parse(raw)
    with pytest.raises(UserError, match="no storage is known by"):
        open_storage(location)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "door",
    [
        lambda uri: SearchJob.parse({"name": "a", "backbone": "b", "tasks": ["glue_cola"], "storage": uri}),
        Storage,
        open_storage,
        lambda uri: cluster.resume("a", address="http://127.0.0.1:1", storage=uri),
        lambda uri: _fetch_results("a", uri, None, "http://127.0.0.1:1"),
    ],
    ids=["job file", "Python", "--storage", "resume --address", "results --address"],
)
@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:hunter2@bucket/runs",
        "s3://bucket/runs?secret_key=hunter2",
        "abfs://:hunter2@account.blob.core.windows.net/x",
    ],
)
def test_a_storage_with_credentials_is_refused_at_every_door_and_not_repeated(uri, door):
    with pytest.raises(UserError, match="holds credentials") as error:
        door(uri)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "uri",
    ["abfs://container@account.dfs.core.windows.net/x", "hdfs://me@host:8020/x", "gs://anonymous@bucket/x"],
)
def test_a_name_in_a_storages_uri_is_no_secret(uri):
    assert storage_problem(uri) is None


def test_a_folder_with_a_colon_may_be_a_storage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_storage("./s3:/x").root == str(tmp_path / "s3:" / "x")
    assert open_storage("a:b").root == str(tmp_path / "a:b")


def test_a_database_of_its_own_takes_the_place_of_the_file():
    url = "postgresql+psycopg://user@host/adaptune"
    assert Storage("s3://bucket/adaptune", url).database_url == url
    assert Storage("/mnt/runs", url).database_url == url


@pytest.mark.parametrize("root", ["s3://bucket/adaptune", "s3://bucket/adaptune/"])
def test_a_uri_has_addresses_and_no_paths(root):
    storage = Storage(root, "postgresql://host/db")
    assert not storage.is_folder
    assert storage.uri("job/bundles") == "s3://bucket/adaptune/job/bundles"
    with pytest.raises(UserError, match="is not a folder"):
        storage.path("job")


def test_checkpoints_and_bundles_are_found_by_name():
    assert checkpoint_key("job", "task", "adapter", 7) == "job/checkpoints/task/adapter/00007.safetensors"
    assert bundle_key("job", "task", "adapter") == "job/bundles/task/adapter"
    keys = {checkpoint_key("j", task, "adapter", number) for task in "ab" for number in range(3)}
    assert len(keys) == 6


def test_what_killed_writers_left_half_written_is_tidied_away(storage, folder):
    storage.write("job/checkpoints/whole", b"whole")
    (folder / "job" / "checkpoints" / ".writing-abc").write_bytes(b"ha")
    storage.tidy("job")
    assert [path.name for path in (folder / "job" / "checkpoints").iterdir()] == ["whole"]
    storage.tidy("no such job")
