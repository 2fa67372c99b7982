"""Whether a worker was lost because memory ran out: as Ray says, or as the kernel counts."""

import math
import time
from pathlib import Path

TOGETHER_SECONDS = 30  # within which a second worker may be told of that the kernel has killed with a first

_RAY_SAYS = ("running low on memory", "OutOfMemoryError", "exceeded the memory usage threshold")
_COUNTERS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))  # each has a line `oom_kill N`


class MemoryWatch:
    """Remembers how many processes the kernel has ended for want of memory on this machine.

    A worker that the kernel kills is one that was killed, as far as Ray knows; a worker of another machine
    is told by Ray's own words alone.
    """

    def __init__(self) -> None:
        self._kills = _kills()
        self._rose_at = -math.inf  # monotonic seconds

    def ran_out(self, loss: str) -> bool:
        """Whether memory was why a worker is lost.

        Args:
            loss: what Ray says of it.
        """
        before, self._kills = self._kills, _kills()
        if self._kills > before:
            self._rose_at = time.monotonic()
        lately = time.monotonic() - self._rose_at < TOGETHER_SECONDS
        return lately or any(words in loss for words in _RAY_SAYS)


def _kills() -> int:
    """So far, on this machine or in this container; 0 where the kernel does not tell."""
    counts = [0]
    for file in _COUNTERS:
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        counts += [int(line.split()[1]) for line in lines if line.startswith("oom_kill ")]
    return max(counts)
