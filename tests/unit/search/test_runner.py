"""What a run says of the cluster that it works on, and of a record that gave way under it."""

import contextlib
from types import SimpleNamespace

import pytest
import ray
from job_files import job
from studies import create, opened
from users import enterable_folder, kept_out

from search import runner
from search.decisions.confirmation import Confirm
from search.errors import StorageError
from search.job.parts import ResourcesPart
from search.progress import Progress
from search.storage import Storage


class Told(Progress):
    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


@pytest.fixture
def search(monkeypatch, tmp_path):
    """A search on a cluster of some nodes (CPUs, GPUs), without studies and Ray: what it warns of."""
    nothing = contextlib.nullcontext()
    for name in ("start_ray", "tracking"):
        monkeypatch.setattr(runner, name, lambda *_, **__: nothing)
    for name in ("_worker_context", "run_trials", "finish_studies"):
        monkeypatch.setattr(runner, name, lambda *_, **__: None)

    def run(*nodes, **asked):
        alive = [{"Alive": True, "Resources": {"CPU": cpus, "GPU": gpus}} for cpus, gpus in nodes]
        monkeypatch.setattr(ray, "nodes", lambda: alive)
        job = SimpleNamespace(name="job", resources=ResourcesPart(**asked))
        told = Told()
        runner._search(
            SimpleNamespace(job=job),
            Storage(str(tmp_path)),
            [],
            clock=SimpleNamespace(check=lambda: None),
            cluster=True,
            progress=told,
        )
        return told.warnings

    return run


def test_a_search_on_a_cluster_says_what_its_trials_wait_for(search):
    (warning,) = search((64.0, 0.0), cpus=8, gpus=1)
    assert (
        "resources.gpus = 1.0: the node of the cluster that comes nearest has no GPU for a trial" in warning
    )
    assert "Until a node comes that has them, trials wait." in warning


def test_a_cluster_whose_nodes_have_each_a_part_of_what_a_trial_asks_for_is_told_of(search):
    (warning,) = search((64.0, 0.0), (4.0, 1.0), cpus=8, gpus=1)
    assert "resources.cpus = 8: the node of the cluster that comes nearest has 4 CPUs for a trial" in warning


def test_a_cluster_of_which_one_node_has_it_all_is_fine(search):
    assert search((64.0, 0.0), (8.0, 1.0), (4.0, 8.0), cpus=8, gpus=1) == []


def delete(file):
    file.unlink()


def cut(file):
    file.write_bytes(file.read_bytes()[:5000])


def make_read_only(file):
    file.chmod(0o444)


@pytest.mark.parametrize(
    ("damage", "said", "fix"),
    [
        (delete, "is gone: it was moved or deleted while it was in use.", "Put it back, or a backup of it"),
        (cut, "was changed or cut short while it was in use.", "Put a backup of it in its place"),
        (make_read_only, "cannot be written any more.", "Give its permissions back"),
    ],
)
def test_a_study_file_that_gives_way_under_a_search_is_named_with_what_to_do(damage, said, fix):
    with enterable_folder() as folder, opened(folder) as record:
        study = create(record)
        (folder / "studies.db").chmod(0o666)
        damage(folder / "studies.db")
        with (
            kept_out(),
            pytest.raises(StorageError) as told,
            runner._saying_what_gave_way(Storage(str(folder))),
        ):
            study.stop("the budget is used up")
    assert str(told.value).startswith(f"the study file {folder}/studies.db {said} {fix}")


# Whether a study's leaders are run again.


def agenda_of(record, job, *, begun, method="adapter"):
    """The agenda of a study of a job now, where it was begun as another one; and what is said."""
    study = create(record, f"tickets/glue_cola/{method}", job=begun)
    said = []
    plan = SimpleNamespace(job=job, allows=lambda *_: True)
    progress = SimpleNamespace(message=said.append)
    return runner._agenda(study, plan, None, progress), said


@pytest.mark.parametrize(
    ("confirm", "finds", "counted"),
    [("auto", True, None), ("none", False, None), ({"top": 2, "seeds": 3}, False, Confirm(2, 3))],
)
def test_a_study_s_leaders_are_run_again_as_its_job_says(tmp_path, confirm, finds, counted):
    made = job(confirm=confirm)
    with opened(tmp_path) as record:
        agenda, said = agenda_of(record, made, begun=made.to_record())
    assert (agenda.find_leaders is not None, agenda.confirm, said) == (finds, counted, [])


@pytest.mark.parametrize("begun", [{}, {"confirm": None}])
def test_a_search_that_was_begun_before_leaders_were_confirmed_goes_on_without(tmp_path, begun):
    with opened(tmp_path) as record:
        agenda, said = agenda_of(record, job(), begun=begun)
    assert agenda.find_leaders is None
    assert said == [
        "tickets/glue_cola/adapter: goes on as it was begun, without confirming its leaders",
    ]


def test_what_does_not_depend_on_a_seed_is_not_run_again(tmp_path):
    made = job(method=["adapter", "probe"])
    with opened(tmp_path) as record:
        agenda, said = agenda_of(record, made, begun=made.to_record(), method="probe")
    assert (agenda.find_leaders, agenda.confirm, said) == (None, None, [])
