"""What signals do during a search: they end it in order, and never leave Ray half started or half ended."""

import contextlib
import gc
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from ray._private import utils


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

    def send_later() -> None:
        threading.Timer(0.01, send).start()  # at once, it would be dropped again

    def send_again(dropped: "sys.UnraisableHookArgs") -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            send_later()
        else:
            hook(dropped)

    def interrupt(_: int, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code is not send_again.__code__:
            frame = frame.f_back
        if frame is None:
            _interrupt()
        else:  # sooner than the hook was through: on a busy machine
            send_later()

    hook, sys.unraisablehook = sys.unraisablehook, send_again
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def interrupting_later() -> Iterator[None]:
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
def undisturbed() -> Iterator[None]:
    """Ignore signals while Ray ends, which takes a second or two. Left half done, it would end this process
    with exit code 1 later: its exit hook ends the raylet first, and the core worker does not outlive that.

    Nor is anything collected meanwhile: a reference of Ray's in a cycle that another thread frees just then
    would end this process in the same way. Such ones are freed before.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM)}
    collects = gc.isenabled()
    gc.disable()
    gc.collect()
    try:
        yield
    finally:
        if collects:
            gc.enable()
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
