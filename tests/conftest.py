"""What all tests share: a Ray cluster of its own for those that talk to one, and what makes them quick."""

import gc
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from clusters import Cluster

# A busy machine is slow, not wrong. `make unit` is for between two edits: `make test` draws four times more.
hypothesis.settings.register_profile("thorough", deadline=None)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=25)
hypothesis.settings.load_profile("thorough")


def pytest_collection_finish() -> None:
    """What is there now stays until the end: the collector need not look through it, nor so often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The messages logged during the test, warnings and worse.

    Instead of pytest's own fixture: with its log capture, every test looks three times through the loggers of
    every library, which takes longer than most tests.
    """
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    keep = Keep(logging.WARNING)
    logging.getLogger().addHandler(keep)
    yield messages
    logging.getLogger().removeHandler(keep)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator["Cluster"]:
    """A real `ray start --head` with a token, on ports of its own; afterwards it and only it is stopped."""
    from clusters import (
        start_cluster,  # torch comes with it, which the process that hands out tests needs not
    )

    with start_cluster(cpus=2) as cluster:
        yield cluster
