"""How far a search walks through the graph: further for a query that lies apart from the rows, as texts do.

Pictures of one model share a direction, and a query that has it too finds its neighbours by a short walk; one that
lies beside all of them (the "modality gap" of CLIP, Liang et al. 2022) needs a longer one for the same recall.
Measured in docs/log.md. Knows vectors; does not know a store.
"""

from typing import TYPE_CHECKING

import numpy as np

from tuwen.index.store import Vector
from tuwen.types import Vectors

if TYPE_CHECKING:
    from qdrant_edge import EdgeShard

SHORT, LONG = 96, 288
"""HNSW's ef"""
SAMPLE = 64
"""rows that stand for all"""
_SHARED, _NEAR = 0.1, 0.8
"""rows whose mean has less than this squared length share nothing; and how much of it a query among them has"""


def centre_of(sample: Vectors) -> Vector | None:
    """What rows share: the mean (dim,) of some (n, dim); None where that is next to nothing."""
    mean: Vector = sample.mean(axis=0)
    return mean if float(mean @ mean) >= _SHARED else None


def beam(query: Vector, centre: Vector | None, limit: int) -> int:
    """The ef for a query of length 1 that wants `limit` rows."""
    among = centre is not None and float(query @ centre) >= _NEAR * float(centre @ centre)
    return max(SHORT if among else LONG, 2 * limit)


class Effort:
    """How far to walk in one shard, whose caller lets in one thread at a time."""

    def __init__(self) -> None:
        self._centre: Vector | None = None
        self._rows = 0

    def ef(self, shard: "EdgeShard", rows: int, query: Vector, limit: int, *, filtered: bool) -> int:
        """As `beam`, in a shard of `rows` rows. What they share is looked for again once they are twice as many."""
        import qdrant_edge as edge

        if rows > 2 * self._rows:
            records, _ = shard.scroll(edge.ScrollRequest(limit=SAMPLE, with_payload=False, with_vector=True))
            self._centre = centre_of(np.array([it.vector for it in records], dtype=np.float32))
            self._rows = rows
        return beam(query, None if filtered else self._centre, limit)
