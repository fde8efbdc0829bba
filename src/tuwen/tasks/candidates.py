"""Terms with their vectors -> hits by score: what a strategy makes of them.

    average    the score is the cosine with the weighted sum of all terms
    best       the score is that of the nearest term alone, see `best_score`

Knows the strategies' formulas. Does not know what becomes of the hits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tuwen.errors import InvalidInput
from tuwen.tasks.query import weighted_sum
from tuwen.tasks.terms import Term
from tuwen.types import Hit, Vectors

if TYPE_CHECKING:
    from tuwen.index.index import Index

Strategy = Literal["average", "best"]
STRATEGIES: tuple[Strategy, ...] = ("average", "best")

_OVERSAMPLED = 4
"""how many times as many rows `best` compares as are wanted, of each term: those near an unwanted term sink"""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows are looked at, see `Wanted`."""

    where: str | None
    exact: bool


def by_average(terms: Sequence[Term], vectors: Vectors, index: "Index", scope: Scope, count: int) -> list[Hit]:
    """The `count` rows nearest to the terms' weighted sum, best first."""
    return index.search(weighted_sum(terms, vectors), k=count, where=scope.where, exact=scope.exact)


def by_best(terms: Sequence[Term], vectors: Vectors, index: "Index", scope: Scope, count: int) -> list[Hit]:
    """The `count` rows of highest `best_score`, among the rows nearest to each term that is liked.

    Raises:
        InvalidInput: no term has a weight above 0.
    """
    weights = np.array([term.weight for term in terms])
    if not (weights > 0).any():
        raise InvalidInput(
            "the strategy best wants something that hits shall be like: --unlike alone has no nearest"
        )
    found = {
        hit.id: hit
        for vector in vectors[weights > 0]
        for hit in index.search(vector, k=_OVERSAMPLED * count, where=scope.where, exact=scope.exact)
    }
    stored = index.vectors(list(found))
    hits = [hit for hit in found.values() if hit.id in stored]
    if not hits:
        return []
    scores = best_score(np.stack([stored[hit.id] for hit in hits]), vectors, weights)
    scored = [replace(hit, score=float(score)) for hit, score in zip(hits, scores, strict=True)]
    return sorted(scored, key=lambda hit: (-hit.score, hit.payload["path"]))[:count]


def best_score(rows: Vectors, examples: Vectors, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """How good rows are by the example that is nearest to each of them.

    The definition is that of Qdrant's recommendation strategy `best_score`. With p the highest cosine of a row with
    what is liked, and n the highest with what is not, its score is

        p        where p > n
        -n * n   else

    so that a row nearer to something unwanted stands behind all others, the further the nearer. A weight other than
    1 multiplies the cosines of its example before they are compared: that is ours.

    Args:
        rows: (n, dim) float32, of length 1.
        examples: (m, dim) float32, of length 1; one or more with a weight above 0.
        weights: (m,), below 0 for what is unwanted.

    Returns:
        (n,) scores.
    """
    cosines = (rows.astype(np.float64) @ examples.astype(np.float64).T) * np.abs(weights)
    liked = cosines[:, weights > 0].max(axis=1)
    if not (weights < 0).any():
        return np.asarray(liked)
    unwanted = cosines[:, weights < 0].max(axis=1)
    return np.asarray(np.where(liked > unwanted, liked, -unwanted * unwanted))
