"""A Ray cluster of its own for tests that talk to one."""

from collections.abc import Iterator

import hypothesis
import pytest
from clusters import Cluster, start_cluster

# A busy machine is slow, not wrong.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Cluster]:
    """A real `ray start --head` with a token, on ports of its own; afterwards it and only it is stopped."""
    with start_cluster(cpus=2) as cluster:
        yield cluster
