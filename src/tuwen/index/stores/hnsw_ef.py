"""Choose HNSW's `ef` (the number of candidates that a graph search keeps) by the number of rows and the query.

The vectors of images share a direction. A query with that direction finds its neighbours with a small `ef`; others,
such as texts (the "modality gap" of CLIP, Liang et al. 2022), need a larger one for the same recall. The numbers were
measured, see docs/log.md.
"""

import math

import numpy as np

from tuwen.index.store import Vector
from tuwen.types import Vectors

SHORT, LONG = 96, 288
"""ef for a query that lies among the rows, and for one that lies apart from them"""
SHORT_UNTIL, LONG_UNTIL = 1_000_000, 100_000
"""numbers of rows up to which these find 99 % of the ten nearest; beyond, ef grows"""
GROWTH = 0.4
"""for 10 times as many rows, ef is 10 ** GROWTH times as large"""
_SHARED, _NEAR = 0.1, 0.8
"""the least squared length of a common direction, and the share of it that a query among the rows has"""


def centre_of(sample: Vectors) -> Vector | None:
    """The direction (dim,) that rows (n, dim) share: their mean; None if it is close to zero."""
    mean: Vector = np.asarray(sample.mean(axis=0))
    return mean if float(mean @ mean) >= _SHARED else None


def is_among(query: Vector, centre: Vector | None) -> bool:
    """Whether a query of length 1 has the common direction of the rows."""
    return centre is not None and float(query @ centre) >= _NEAR * float(centre @ centre)


def ef_for(rows: int, limit: int, *, among: bool = False) -> int:
    """The ef to find `limit` of `rows` rows; `among`: whether the query lies among them."""
    ef, until = (SHORT, SHORT_UNTIL) if among else (LONG, LONG_UNTIL)
    return max(round(ef * math.pow(max(1.0, rows / until), GROWTH)), 2 * limit)
