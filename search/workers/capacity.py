"""How many trials a host trains at once: as many as fit in memory and still pay."""

from statistics import mean, median

MOST = 64
WORTH = 1.1  # doubling the trials has to make a step of all of them so much faster, counted per trial
STEPS = 20  # of a full pack, before its speed is known
ROUNDS = 3  # of steps after each of which a GPU is waited for; in the first, kernels and graphs are made


class Capacity:
    """A count that doubles while it pays, and never again exceeds what memory allowed.

    Args:
        fixed: the count, where the user gave it; None: found out.
        together: steps of which only the last waits for what all have started (`packs.pack`'s on a GPU): a
            single one's time says nothing.
    """

    def __init__(self, fixed: int | None, *, together: int = 1) -> None:
        self._together = together
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
        if self._together > 1:
            if len(self._seconds) < ROUNDS * self._together:
                return
            taken = mean(self._seconds[self._together :])
        elif len(self._seconds) < STEPS:
            return
        else:
            taken = median(self._seconds)
        self._speeds[self.count] = self.count / taken
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
