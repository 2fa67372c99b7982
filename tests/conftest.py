"""What all tests share: a Ray cluster of its own for those that talk to one, and what makes them quick."""

import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from clusters import Cluster

# A busy machine is slow, not wrong.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_collection_finish() -> None:
    """What is there now stays until the end: the collector need not look through it after every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator["Cluster"]:
    """A real `ray start --head` with a token, on ports of its own; afterwards it and only it is stopped."""
    from clusters import (
        start_cluster,  # torch comes with it, which the process that hands out tests needs not
    )

    with start_cluster(cpus=2) as cluster:
        yield cluster
