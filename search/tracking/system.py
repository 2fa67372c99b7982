"""What the hosts' GPUs do, as MLflow's own system metrics: a mean for each half minute.

MLflow's monitor reports the machine it runs on, with all of its GPUs, to a server that it has to reach. Hosts
may be on other machines than the driver, which alone knows MLflow: they tell the driver.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.workers.reports import HostState

SYSTEM_SECONDS = 30  # between two values of a metric


class SystemMetrics:
    """Takes what hosts tell every few seconds, and gives means."""

    def __init__(self) -> None:
        self._told: dict[str, list[float]] = defaultdict(list)
        self._given_at: float | None = None

    def add(self, states: "Sequence[HostState]") -> Mapping[str, float]:
        """Take what hosts tell; returns the means since the last ones where these are due, else nothing."""
        for state in states:
            for name, value in state.gpus.items():
                self._told[f"system/{state.node}/{name}"].append(value)
        now = time.monotonic()
        if not self._told or (self._given_at is not None and now - self._given_at < SYSTEM_SECONDS):
            return {}
        means = {name: mean(values) for name, values in self._told.items()}
        self._told.clear()
        self._given_at = now
        return means
