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
