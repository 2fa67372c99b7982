"""The driver's hosts of packs: starting them, asking what they do, choosing one for a trial."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError

from search.workers.capacity import MOST
from search.workers.context import WorkerContext
from search.workers.hosts import PROXY_CPUS, PackHost
from search.workers.reports import HostState

POLL_SECONDS = 2  # between two questions to a host for its state

OnStates = Callable[[Sequence[HostState]], None]


class HostPool:
    """The driver's hosts: one for each GPU (or, without one, a single host), as many as the cluster has.

    Args:
        capacity: trials at once at each; None: each host finds out.
        cpus, gpus: what a host takes, less the little of the CPUs that its trials' proxies take.
        cluster: whether an autoscaler may add nodes: one more host than there is room for then waits.
        on_states: told of what the hosts do, whenever that is known anew.
    """

    def __init__(
        self,
        context: WorkerContext,
        capacity: int | None,
        *,
        cpus: int,
        gpus: float,
        cluster: bool,
        on_states: OnStates = lambda _: None,
    ) -> None:
        left = max(cpus / 2, cpus - PROXY_CPUS * (capacity or MOST))
        self._options = {"num_cpus": left, "num_gpus": gpus, "max_restarts": -1, "max_concurrency": 1000}
        self._context = ray.put(context)
        self._capacity = capacity
        self._gpus = gpus
        self._spare = 1 if cluster and gpus else 0
        self._hosts: dict[str, Any] = {}
        self._states: dict[str, HostState] = {}
        self._on_states = on_states
        self._asked: dict[str, Any] = {}  # answers that are under way
        self._asked_at = 0.0

    def slots(self) -> int:
        """How many trials all hosts take now; starts hosts for GPUs that have come."""
        there = int(ray.cluster_resources().get("GPU", 0) // self._gpus) if self._gpus else 1
        while len(self._hosts) < max(1, there) + self._spare:
            name = f"adaptune-{self._context.hex()[:12]}-{len(self._hosts)}"
            self._hosts[name] = (
                ray.remote(PackHost).options(**self._options, name=name).remote(self._context, self._capacity)
            )
        if time.monotonic() - self._asked_at > POLL_SECONDS:
            self._asked_at = time.monotonic()
            for name, host in self._hosts.items():
                self._asked.setdefault(name, host.state.remote())
        ready, _ = ray.wait(list(self._asked.values()), num_returns=len(self._asked), timeout=0)
        for name, answer in list(self._asked.items()):
            if answer in ready:
                del self._asked[name]
                with contextlib.suppress(RayActorError):  # it is being started again
                    self._states[name] = ray.get(answer)
        if ready:
            self._on_states(list(self._states.values()))
        return sum(state.capacity for state in self._states.values())

    def pick(self, live: Counter[str]) -> str:
        """The host with the most room, given how many live trials each has."""
        return max(self._states, key=lambda name: self._states[name].capacity - live[name])

    def close(self) -> None:
        """End all hosts; what they trained is in their checkpoints."""
        for host in self._hosts.values():
            ray.kill(host)
        self._hosts, self._states = {}, {}
