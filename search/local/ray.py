"""A Ray of our own on this machine: in a private folder, on 127.0.0.1, with a token, without metrics."""

import contextlib
import logging
import os
import resource
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
import ray._raylet
from ray._private import ray_constants
from ray._private import services as ray_services
from ray._private import utils as ray_utils
from ray._private.node import Node

from search.errors import RayStartError, UserError, first_line
from search.local.private import PrivateFolder
from search.local.signals import undisturbed

SMALLEST_FILE = 78_643_200  # bytes: the least that Ray takes for its shared memory
_RAYLET: Any = ray._raylet  # compiled, and typed in part
# Ray opens its own folders to everyone (0777): they lie one below ours, which is closed.
_RAY = "r"  # short, since a socket's path is
# What the raylet runs in the place of the dashboard's agent, since it insists on one: it ends with it.
_NO_AGENT = ["sh", "-c", "exec cat"]
_AGENT_PORTS = ("DASHBOARD_AGENT_LISTEN_PORT", "METRICS_AGENT_PORT", "METRICS_EXPORT_PORT")
_DEEPEST_SOCKET = f"/{_RAY}/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"


@contextlib.contextmanager
def local_ray() -> Iterator[Mapping[str, str]]:
    """Start Ray for the length of a block; gives its addresses.

    Its folder is removed at the end, and left where Ray did not start or the process was killed.
    """
    _check_file_size()
    folder = PrivateFolder(deepest_socket=_DEEPEST_SOCKET)
    with _token_of_our_own():
        addresses = _start(folder.path / _RAY)
        try:
            yield addresses
        finally:
            with undisturbed():
                ray.shutdown()
                folder.remove()


def _start(folder: Path) -> Mapping[str, str]:
    try:
        with _nothing_but_workers():
            context: Any = ray.init(  # declared as the base of Ray's contexts, which has no addresses
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
                _node_ip_address="127.0.0.1",
                _system_config={
                    "enable_metrics_collection": False,
                    # Workers that start before they are asked for end unused: ours are actors.
                    "prestart_worker_first_driver": False,
                    "enable_pipe_based_agent_to_parent_health_check": True,  # which _NO_AGENT reads
                },
            )
    except BaseException as error:
        with undisturbed():
            ray.shutdown()
        if not isinstance(error, RuntimeError | ValueError):
            raise
        raise RayStartError(
            f"Ray did not start ({first_line(error)}). {_room()} Its logs lie under {folder}."
        ) from error
    addresses: Mapping[str, str] = context.address_info
    return addresses


def _check_file_size() -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY and limit < SMALLEST_FILE:
        raise UserError(
            f"files of this process may have {limit:,} bytes at most (RLIMIT_FSIZE, `ulimit -f`), and Ray's "
            f"shared memory is a file of {SMALLEST_FILE:,} or more. Set `ulimit -f unlimited`."
        )


def _room() -> str:
    """What Ray may have lacked, for whoever reads that it did not start."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    gigabytes = ray_utils.estimate_available_memory() / 1e9
    words = [f"{gigabytes:.1f} GB of memory are free: if that is little, give it more or close something."]
    if limit != resource.RLIM_INFINITY:
        words.append(f"Files may have {limit:,} bytes at most: set `ulimit -f unlimited`.")
    return " ".join(words)


@contextlib.contextmanager
def _token_of_our_own() -> Iterator[None]:
    """A token for this Ray alone, whatever the environment says; and the environment as it was afterwards."""
    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_AUTH_TOKEN_PATH": None}
    before = {name: os.environ.get(name) for name in ours}
    _set_environment(ours)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str | None]) -> None:
    """Change variables that Ray has read when it was imported, and have it read them again."""
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _RAYLET.Config.initialize("")  # first, since a thread of Ray's that still ends may ask for the token
    _RAYLET.AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _nothing_but_workers() -> Iterator[None]:
    """Let Ray bind its ports to 127.0.0.1, as it does elsewhere than on Linux, and leave out what only serves
    a cluster or shows what workers print: the autoscaler's monitor, that of logs, the dashboard and its
    agent. Each takes time, memory and ports, some of which answer without a token.
    """
    missing = ImportError("not wanted")
    start_raylet, python = Node.start_raylet, ray_services._build_python_executable_command_memory_profileable

    def start_without_agent(node: Any, *arguments: Any, **more: Any) -> None:
        for name in _AGENT_PORTS:  # which the raylet waits for; -1: nobody listens
            port = getattr(_RAYLET, f"{name}_NAME")
            _RAYLET.persist_port(node._session_dir, node._node_id, port, -1)
        start_raylet(node, *arguments, **more)

    def program(component: str, *arguments: Any, **more: Any) -> list[str]:
        is_agent = component == ray_constants.PROCESS_TYPE_DASHBOARD_AGENT
        return _NO_AGENT if is_agent else python(component, *arguments, **more)

    replacements: list[tuple[Any, str, Any]] = [
        (ray_constants, "ENABLE_RAY_CLUSTER", False),
        (ray_utils, "get_dashboard_dependency_error", lambda: missing),
        (ray_services, python.__name__, program),
        (Node, "start_raylet", start_without_agent),
        (Node, "start_monitor", lambda _: None),
        (Node, "start_log_monitor", lambda _: None),
        (Node, "start_api_server", lambda _, **__: None),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replacements]
    for owner, name, value in replacements:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
