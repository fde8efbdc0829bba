"""The `ef` of a graph search: how many candidates it keeps, by the number of rows and the kind of query.

Images of one model share a direction, and a query that shares it finds its neighbours with a small `ef`. Queries that
do not, as texts (the "modality gap" of CLIP, Liang et al. 2022), need a larger one for the same recall. The numbers
were measured, see docs/log.md.
"""

import math

import numpy as np

from tuwen.index.store import Vector
from tuwen.types import Vectors

SHORT, LONG = 96, 288
"""HNSW's ef for a query among the rows, and for one apart from them"""
SHORT_UNTIL, LONG_UNTIL = 1_000_000, 100_000
"""rows up to which either finds 99 % of the ten nearest; among more it grows"""
GROWTH = 0.4
"""among 10 times as many rows, 10 ** GROWTH times as far"""
_SHARED, _NEAR = 0.1, 0.8
"""rows whose mean has less than this squared length share nothing; and how much of it a query among them has"""


def centre_of(sample: Vectors) -> Vector | None:
    """What rows share: the mean (dim,) of some (n, dim); None where that is next to nothing."""
    mean: Vector = np.asarray(sample.mean(axis=0))
    return mean if float(mean @ mean) >= _SHARED else None


def is_among(query: Vector, centre: Vector | None) -> bool:
    """Whether a query of length 1 has the direction that the rows share."""
    return centre is not None and float(query @ centre) >= _NEAR * float(centre @ centre)


def beam(rows: int, limit: int, *, among: bool = False) -> int:
    """The ef of a search for `limit` of `rows` rows; `among`: by a query that is as they are."""
    ef, until = (SHORT, SHORT_UNTIL) if among else (LONG, LONG_UNTIL)
    return max(round(ef * math.pow(max(1.0, rows / until), GROWTH)), 2 * limit)
