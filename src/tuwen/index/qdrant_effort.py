"""How far to walk in one Qdrant Edge shard: it remembers what the shard's rows share. The rule is `beam.py`'s."""

from typing import TYPE_CHECKING

import numpy as np

from tuwen.index import beam
from tuwen.index.store import Vector

if TYPE_CHECKING:
    from qdrant_edge import EdgeShard

SAMPLE = 64
"""rows that stand for all"""


class Effort:
    """Of one shard, whose caller lets in one thread at a time."""

    def __init__(self) -> None:
        self._centre: Vector | None = None
        self._rows = 0

    def ef(self, shard: "EdgeShard", rows: int, query: Vector, limit: int, *, filtered: bool) -> int:
        """The ef of a search among `rows` rows. What they share is looked for again once they are twice as many."""
        import qdrant_edge as edge

        if rows > 2 * self._rows:
            records, _ = shard.scroll(edge.ScrollRequest(limit=SAMPLE, with_payload=False, with_vector=True))
            self._centre = beam.centre_of(np.array([it.vector for it in records], dtype=np.float32))
            self._rows = rows
        return beam.beam(rows, limit, among=not filtered and beam.is_among(query, self._centre))
