"""How often somebody may ask: a bucket for each, that fills at a steady pace. Knows names and time only."""

from collections import OrderedDict
from time import monotonic

KNOWN = 10_000
"""names that are remembered; one that is forgotten begins anew with a full bucket"""


class Rates:
    """Buckets by name."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, name: str) -> float:
        """Seconds until `name` may ask; 0: now."""
        return max(0.0, (1 - self._level(name)) / self._per_second)

    def take(self, name: str) -> None:
        """`name` asks."""
        self._buckets[name] = (self._level(name) - 1, monotonic())
        self._buckets.move_to_end(name)
        while len(self._buckets) > KNOWN:
            self._buckets.popitem(last=False)

    def _level(self, name: str) -> float:
        level, since = self._buckets.get(name, (self._burst, 0.0))
        return min(self._burst, level + (monotonic() - since) * self._per_second)
