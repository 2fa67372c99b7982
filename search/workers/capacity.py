"""How many trials a host trains at once: as many as fit in memory and still pay."""

from statistics import median

MOST = 64
WORTH = 1.1  # doubling the trials has to make a step of all of them so much faster, counted per trial
STEPS = 20  # of a full pack, before its speed is known


class Capacity:
    """A count that doubles while it pays, and never again exceeds what memory allowed.

    Args:
        fixed: the count, where the user gave it; None: found out.
    """

    def __init__(self, fixed: int | None) -> None:
        self._fixed = fixed is not None
        self._most = fixed or MOST
        self.count = fixed or 1
        self._seconds: list[float] = []  # of steps of so many trials
        self._speeds: dict[int, float] = {}  # trial-steps a second, by count

    def measure(self, members: int, seconds: float) -> None:
        """Take the time that one step of so many members took."""
        if self._fixed or members < self.count or self.count in self._speeds:
            return
        self._seconds.append(seconds)
        if len(self._seconds) < STEPS:
            return
        self._speeds[self.count] = self.count / median(self._seconds)
        self._seconds = []
        half = self._speeds.get(self.count // 2)
        if half is not None and self._speeds[self.count] < WORTH * half:
            self.count //= 2
        elif self.count < self._most:
            self.count = min(2 * self.count, self._most)

    def limit(self, most: int) -> None:
        """Memory does not suffice for more than so many; one is always tried."""
        self._most = max(1, most)
        self.count = min(self.count, self._most)
        self._seconds = []
