"""Ray for the length of a search."""

import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
import ray.util.client

from search.commands import command, storage_options
from search.errors import UserError, first_line
from search.local.ray import local_ray
from search.local.signals import interrupting_later, undisturbed
from search.probe import find_open_folder
from search.storage import Storage

WORKER_SECONDS = 120  # until a worker has started, on a busy machine
POLL_SECONDS = 1  # between two looks at whether the search has ended
REFUSALS, REFUSED_SECONDS = 3, 0.5  # in a row, after which a server is taken for dead
log = logging.getLogger(__name__)


@contextlib.contextmanager
def start_ray(storage: Storage, job: str, *, cluster: bool, warn: Callable[[str], None]) -> Iterator[None]:
    """Ray for the length of a search: our own on this machine, the cluster's, or one that the caller has.

    If Ray dies on this machine, so does this process, with 1: `warn` is told why before.

    Ray puts the folder it is started in onto every worker's module path, where a folder called `search` would
    hide our package: it is started in the job's own folder instead.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the study and MLflow have it all
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    # The searcher says how many may be live; Tune's own limit, one that waits, starts workers one by one.
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1000")
    neutral = storage.path(job) if storage.is_folder else Path(os.sep)
    with contextlib.ExitStack() as stack:
        if ray.is_initialized():
            addresses = _callers_addresses()
        else:
            with contextlib.chdir(neutral), interrupting_later():
                addresses = stack.enter_context(_joined_cluster() if cluster else local_ray())
        again = command("resume", job, *storage_options(storage))
        with _ending_with_ray(addresses, again, warn, control=not cluster):
            yield


@contextlib.contextmanager
def _joined_cluster() -> Iterator[Mapping[str, str]]:
    """The cluster that this process belongs to; gives its addresses."""
    try:
        context: Any = ray.init(  # declared as the base of Ray's contexts, which has no addresses
            address="auto", log_to_driver=False, logging_level=logging.ERROR
        )
        yield context.address_info
    finally:
        with undisturbed():
            ray.shutdown()


def check_callers_ray() -> None:
    """See that a Ray which the caller has started is one that a local run can use. Warns where it is open
    to other users: Ray's own session folder is, where no folder above it is closed.

    Raises:
        UserError: it is not; says what to do.
    """
    instead = "Call ray.shutdown() before: the run starts a Ray of its own."
    if ray.util.client.ray.is_connected():
        raise UserError(
            f"this process talks to a Ray cluster as a client (ray://), which a run cannot. {instead}"
        )
    if len([node for node in ray.nodes() if node["Alive"]]) > 1:
        raise UserError(
            "this process has joined a Ray cluster of several nodes, and a local run has its storage here. "
            f"{instead} For the cluster: `adaptune submit`, or run(job, cluster=True) where all nodes see it."
        )
    ours = str(Path(__file__).parent)
    try:
        theirs: str = ray.get(_package_of_worker.remote(), timeout=WORKER_SECONDS)
    except Exception as error:
        raise UserError(
            "the Ray that this process has started cannot use adaptune: its workers say "
            f"{first_line(error)}. {instead}"
        ) from error
    if theirs != ours:
        raise UserError(
            f"the Ray that this process has started has workers with another adaptune ({theirs}). {instead}"
        )
    if folder := find_open_folder(Path(_callers_addresses()["session_dir"])):
        log.warning(
            "Other users of this machine can run code as you by the Ray that this process has started: %s is "
            "open to all. Where there are others, call ray.shutdown() before: the run starts a Ray of its "
            "own, closed to them.",
            folder,
        )


@ray.remote(num_cpus=0)
def _package_of_worker() -> str:
    return str(Path(__file__).parent)


def _callers_addresses() -> Mapping[str, str]:
    """Those of a Ray that was there before; it is the caller's, and stays."""
    node: Any = ray._private.worker._global_node
    addresses: Mapping[str, str] = node.address_info
    return addresses


@contextlib.contextmanager
def _ending_with_ray(
    addresses: Mapping[str, str], again: str, warn: Callable[[str], None], *, control: bool
) -> Iterator[None]:
    """End this process when the raylet that it talks to dies. Ray does so itself some seconds later, without
    a word on how to go on; meanwhile Tune restarts workers in vain and takes their trials for failed.

    Args:
        control: whether to end with Ray's control service, too: without it, Ray waits for a minute.
    """
    done = threading.Event()
    raylet = socket.socket(socket.AF_UNIX)
    raylet.connect(addresses["raylet_socket_name"])
    watched: dict[str, Callable[[], None]] = {"raylet": lambda: _wait_for_end(raylet)}
    if control:
        watched["gcs_server"] = lambda: _wait_for_server(addresses["gcs_address"], done)

    def watch(part: str, wait: Callable[[], None]) -> None:
        wait()
        if done.is_set():
            return
        warn(
            f"Ray has died on this machine: was its {part} killed, or memory used up? See "
            f"{addresses['session_dir']}/logs/{part}.out. Nothing that was recorded is lost. "
            f"Go on with: {again}"
        )
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    for part, wait in watched.items():
        threading.Thread(target=watch, args=(part, wait), name=f"{part} watch", daemon=True).start()
    try:
        yield
    finally:
        done.set()
        with contextlib.suppress(OSError):
            raylet.shutdown(socket.SHUT_RDWR)
        raylet.close()


def _wait_for_end(connection: socket.socket) -> None:
    """It sends nothing: this returns when the other side is gone, or we are."""
    with contextlib.suppress(OSError):
        connection.recv(1)


def _wait_for_server(address: str, done: threading.Event) -> None:
    """Return when nobody listens at HOST:PORT any more. A connection that says nothing may be closed: then
    there is another.
    """
    host, _, port = address.rpartition(":")
    refused = 0
    while refused < REFUSALS and not done.wait(REFUSED_SECONDS if refused else 0):
        try:
            with socket.create_connection((host, int(port)), timeout=POLL_SECONDS) as connection:
                refused = 0
                while not done.is_set():
                    try:
                        if not connection.recv(1):
                            break
                    except TimeoutError:
                        continue
        except ConnectionRefusedError:
            refused += 1
        except OSError:  # out of file handles, or cut: the next try tells
            done.wait(REFUSED_SECONDS)
