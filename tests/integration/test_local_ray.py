"""A local run's Ray, as other users of the machine and of the network see it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from search.local.session import start_ray
from search.storage import Storage

pytestmark = pytest.mark.integration

ASK = """
import sys
from ray._raylet import GcsClient
print(len(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=20)))
"""

# Another thread frees references of Ray's, in cycles, as soon as Ray begins to end.
END = """
import gc, threading
import ray
from search.local.signals import undisturbed

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
gc.set_threshold(10**9)
for number in range(20000):
    cycle = [ray.put(number)]
    cycle.append(cycle)
ending = threading.Event()

def work():
    ending.wait()
    gc.set_threshold(1)
    while ending.is_set():
        [[] for _ in range(100)]

threading.Thread(target=work, daemon=True).start()
with undisturbed():
    ending.set()
    ray.shutdown()
    ending.clear()
print("ended")
"""


@ray.remote(num_cpus=1)
def authentication_of_worker():
    return os.environ["RAY_AUTH_MODE"]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The addresses of a local Ray with a worker, started where the environment asks for no token."""
    storage = Storage(str(tmp_path_factory.mktemp("storage")))
    storage.path("job").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        with start_ray(storage, "job", cluster=False, warn=print):
            assert ray.get(authentication_of_worker.remote()) == "token"
            yield ray._private.worker._global_node.address_info
        assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_everything_listens_on_this_machine_alone(running):
    import psutil  # Ray brings it along, and finds it only once Ray is imported

    me = psutil.Process()
    addresses = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in (me, *me.children(recursive=True))
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_nothing_runs_beside_it_that_only_a_dashboard_needs(running):
    import psutil

    processes = psutil.Process().children(recursive=True)
    titles = " ".join(word for process in processes for word in process.cmdline()[:3])
    assert "raylet/raylet" in titles
    for unwanted in ("DashboardAgent", "dashboard/agent.py", "dashboard.py", "monitor.py"):
        assert unwanted not in titles


def test_its_folder_is_closed_to_other_users(running):
    private = next(parent for parent in Path(running["session_dir"]).parents if "adaptune" in parent.name)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert private.stat().st_uid == os.getuid()


def test_who_has_no_token_is_not_answered(running):
    command = [sys.executable, "-c", ASK, running["gcs_address"]]
    asked = {
        mode: subprocess.run(
            command,
            env={**os.environ, "RAY_AUTH_MODE": mode},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        for mode in ("disabled", "token")
    }
    assert asked["token"].stdout.strip() == "1"  # with the token that our environment holds
    assert asked["disabled"].returncode != 0
    assert "Unauthenticated" in asked["disabled"].stderr or "UNAUTHENTICATED" in asked["disabled"].stderr


def test_what_other_threads_free_while_ray_ends_does_not_end_this_process():
    done = subprocess.run(
        [sys.executable, "-c", END], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip()[-5:]) == (0, "ended"), done.stderr[-2000:]
