"""Ray for the length of a search, and what signals do meanwhile."""

import signal

import pytest

from search import session
from search.session import start_ray, terminate_as_interrupt
from search.storage import Storage


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["in front", "in the background"])
def ctrl_c(request):
    """How a process finds Ctrl-C when it starts: a shell lets its jobs in the background ignore it."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_sigterm_interrupts_the_search_however_it_was_started():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminate_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("running", [True, False])
def test_a_ray_that_does_not_start_is_ended_unless_it_is_the_callers(running, tmp_path, monkeypatch):
    def refuse(**_):
        raise RuntimeError("no")

    ended = []
    monkeypatch.setattr(session.ray, "is_initialized", lambda: running)
    monkeypatch.setattr(session.ray, "init", refuse)
    monkeypatch.setattr(session.ray, "shutdown", lambda: ended.append(True))
    storage = Storage(str(tmp_path))
    storage.path("job").mkdir()
    with pytest.raises(RuntimeError, match="no"), start_ray(storage, "job", cluster=False):
        pass
    assert bool(ended) != running


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_ray_ends_does_not_leave_that_half_done(sent, tmp_path, monkeypatch):
    ended = []

    def end():
        signal.raise_signal(sent)
        ended.append(True)

    monkeypatch.setattr(session.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(session.ray, "init", lambda **_: None)
    monkeypatch.setattr(session.ray, "shutdown", end)
    storage = Storage(str(tmp_path))
    storage.path("job").mkdir()
    with terminate_as_interrupt():
        handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
        with start_ray(storage, "job", cluster=False):
            pass
        assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert ended
