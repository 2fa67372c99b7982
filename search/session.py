"""Ray for the length of a search, and what signals do meanwhile."""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray._private import utils

from search.storage import Storage


@contextlib.contextmanager
def start_ray(storage: Storage, job: str, *, cluster: bool, warn: Callable[[str], None]) -> Iterator[None]:
    """Ray for the length of a search: our own on this machine, or the cluster's.

    If Ray dies on this machine, so does this process, with 1: `warn` is told why before.

    Ray puts the folder it is started in onto every worker's module path, where a folder called `search` would
    hide our package: it is started in the job's own folder instead.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the study and MLflow have it all
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    # The searcher says how many may be live; Tune's own limit, one that waits, starts workers one by one.
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1000")
    neutral = storage.path(job) if storage.is_folder else Path(os.sep)
    ours = not ray.is_initialized()  # else `init` refuses, and what runs is the caller's
    try:
        with contextlib.chdir(neutral), _interrupting_later():
            context: Any = ray.init(  # declared as the base of Ray's contexts, which has no addresses
                address="auto" if cluster else "local",
                include_dashboard=None if cluster else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        again = f"adaptune resume {job} --storage {storage.root}"
        with _ending_with_ray(context.address_info, again, warn):
            yield
    finally:
        if ours:
            with _undisturbed():
                ray.shutdown()


@contextlib.contextmanager
def _ending_with_ray(addresses: Mapping[str, str], again: str, warn: Callable[[str], None]) -> Iterator[None]:
    """End this process when the raylet that it talks to dies. Ray does so itself some seconds later, without
    a word on how to go on; meanwhile Tune restarts workers in vain and takes their trials for failed.
    """
    raylet = socket.socket(socket.AF_UNIX)
    raylet.connect(addresses["raylet_socket_name"])
    done = threading.Event()

    def watch() -> None:
        with contextlib.suppress(OSError):
            raylet.recv(1)  # it sends nothing: this returns when it is gone, or we are
        if done.is_set():
            return
        warn(
            "Ray has died on this machine: was its raylet killed, or memory used up? See "
            f"{addresses['session_dir']}/logs/raylet.out. Nothing that was recorded is lost. "
            f"Go on with: {again}"
        )
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    threading.Thread(target=watch, name="raylet watch", daemon=True).start()
    try:
        yield
    finally:
        done.set()
        with contextlib.suppress(OSError):
            raylet.shutdown(socket.SHUT_RDWR)
        raylet.close()


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which a stopped Ray job gets, end the search in order like Ctrl-C; Ray's own aborts.

    Python drops what is raised while it frees something: a signal that comes just then is sent again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return

    def send() -> None:
        if sys.unraisablehook is send_again:  # else this is over
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def send_again(dropped: "sys.UnraisableHookArgs") -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            threading.Timer(0.01, send).start()  # at once, it would be dropped again
        else:
            hook(dropped)

    hook, sys.unraisablehook = sys.unraisablehook, send_again
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _interrupting_later() -> Iterator[None]:
    """Keep a signal until Ray has started. Meanwhile Ray's own handler would exit without a word, and
    where Ray forks, Python drops what a handler raises. A second signal does not wait.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []

    def keep(number: int, _: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    kept = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) != signal.SIG_IGN]
    before = {one: signal.signal(one, keep) for one in kept}
    rays_own, utils.set_sigterm_handler = utils.set_sigterm_handler, lambda _: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = rays_own
        for one, handler in before.items():
            signal.signal(one, handler)
    if asked:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore signals while Ray ends, which takes a second or two. Left half done, it would end this process
    with exit code 1 later: its exit hook ends the raylet first, and the core worker does not outlive that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _interrupt(*_: object) -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's job in the background
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)  # Tune's own handler ends its run in order


@contextlib.contextmanager
def keeping_interrupt() -> Iterator[None]:
    """Take Ctrl-C back from Tune when its run has ended: its handler would swallow the next one."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
