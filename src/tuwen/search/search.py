"""Search: query terms to ranked hits.

terms --term_vectors--> vectors --by_average | by_best--> candidates --folded--> --spread--> hits
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from tuwen.errors import InvalidInput
from tuwen.index.filters import checked_field, in_order
from tuwen.search.diversity import folded, spread
from tuwen.search.query import (
    Encodes,
    RowId,
    Strategy,
    Term,
    describe,
    parse_term,
    query_vector,
    term_vectors,
    weighted_sum,
)
from tuwen.types import Hit, Vectors

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

_OVERSAMPLED = 4
"""rows that `best` compares for each term, as a multiple of those wanted: rows near an unwanted term sink"""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows are searched, see `Wanted`."""

    where: str | None
    exact: bool


def by_average(terms: Sequence[Term], vectors: Vectors, index: "VectorIndex", scope: Scope, count: int) -> list[Hit]:
    """The `count` rows nearest to the terms' weighted sum, best first."""
    return index.search(weighted_sum(terms, vectors), k=count, where=scope.where, exact=scope.exact)


def by_best(terms: Sequence[Term], vectors: Vectors, index: "VectorIndex", scope: Scope, count: int) -> list[Hit]:
    """The `count` rows of highest `best_score`, among the rows nearest to each liked term.

    Raises:
        InvalidInput: no term has a weight above 0.
    """
    weights = np.array([term.weight for term in terms])
    if not (weights > 0).any():
        hint = "give something that hits should resemble (--like), not only --unlike"
        raise InvalidInput(f"the strategy best needs a positive example: {hint}", where="strategy", hint=hint)
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
    """The score of each row by the example that is nearest to it.

    The definition is that of Qdrant's recommendation strategy `best_score`. With p the highest cosine of a row with
    positive examples, and n the highest with negative ones, its score is

        p        if p > n
        -n * n   otherwise

    so that rows nearer to a negative example come after all others, the nearest last. A weight other than 1
    multiplies the cosines of its example before they are compared; this is our extension.

    Args:
        rows: (n, dim) float32, of length 1.
        examples: (m, dim) float32, of length 1; at least one with a weight above 0.
        weights: (m,), below 0 for negative examples.

    Returns:
        (n,) scores.
    """
    cosines = (rows.astype(np.float64) @ examples.astype(np.float64).T) * np.abs(weights)
    liked = cosines[:, weights > 0].max(axis=1)
    if not (weights < 0).any():
        return np.asarray(liked)
    unwanted = cosines[:, weights < 0].max(axis=1)
    return np.asarray(np.where(liked > unwanted, liked, -unwanted * unwanted))


__all__ = ["RowId", "Strategy", "Term", "Wanted", "describe", "parse_term", "query_vector", "search"]

_POOL, _POOLED = 400, 4
"""candidates for `diversity`: 400, or 4 times k; a fixed number for common k keeps the order when k grows"""
_MOST = 20_000
"""candidates that `unique` looks at before it returns fewer than k hits"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of a search.

    Attributes:
        k: the most hits to return.
        min_score: leave out hits of a lower score.
        where: a filter such as `width >= 1024 and folder == "2023"`.
        exact: compare with every row instead of searching the approximate index.
        strategy: how several terms make a score: `average` or `best`.
        diversity: 0 to 1, how much hits should differ from each other, see `diversity.spread`.
        unique: fold hits whose cosine to a better hit is at least this into that hit, see `Hit.similar`.
    """

    k: int = 10
    min_score: float | None = None
    where: str | None = None
    exact: bool = False
    strategy: Strategy = "average"
    diversity: float = 0.0
    unique: float | None = None


def search(terms: Sequence[Term], encoder: Encodes | None, index: "VectorIndex", wanted: Wanted) -> list[Hit]:
    """Find the rows nearest to the terms, best first; with `diversity`, in the order of selection.

    `Hit.score` is the cosine with the terms' weighted sum; with the strategy `best`, see `candidates.best_score`.
    Rows that are terms themselves are not returned.

    Args:
        terms: what hits should resemble, and what they should not.
        encoder: the index's model; may be None if all terms are rows or vectors.
        index: the index to search.
        wanted: the options.

    Raises:
        InvalidInput: see `query_vector`; or an option is out of range.
        RejectedImages: an image of the query cannot be read.
    """
    _check(wanted)
    vectors = term_vectors(terms, encoder, index)
    own = {term.what.id for term in terms if isinstance(term.what, RowId)}
    by_strategy = by_best if wanted.strategy == "best" else by_average
    look = partial(by_strategy, terms, vectors, index, Scope(wanted.where, wanted.exact))

    def candidates(count: int) -> list[Hit]:
        found = [hit for hit in look(count + len(own)) if hit.id not in own][:count]
        return [hit for hit in found if wanted.min_score is None or hit.score >= wanted.min_score]

    count = max(_POOL, _POOLED * wanted.k) if wanted.diversity else wanted.k
    hits = candidates(count) if wanted.unique is None else _unlike(candidates, index, wanted.unique, count)
    return spread(*_with_vectors(hits, index), wanted.diversity, wanted.k) if wanted.diversity else hits


def ordered(hits: list[Hit], sort: str | None) -> list[Hit]:
    """Hits in another order. `sort`: a field, with `-` before it for the reverse order; None: as they are.

    Raises:
        InvalidInput: there is no such field.
    """
    if sort is None:
        return hits
    field = checked_field(sort.removeprefix("-"), str, int, float)
    found = {hit.id: hit for hit in hits}
    order = in_order(list(found), {name: hit.payload.get(field) for name, hit in found.items()}, sort)
    return [found[name] for name in order]


def _unlike(candidates: Callable[[int], list[Hit]], index: "VectorIndex", unique: float, count: int) -> list[Hit]:
    """`count` hits that differ: asks for more candidates until there are that many, or no more rows."""
    asked = 2 * count
    while True:
        found = candidates(asked)
        hits = folded(*_with_vectors(found, index), unique)
        if len(hits) >= count or len(found) < asked or asked >= _MOST:
            return hits[:count]
        asked *= 4


def _with_vectors(hits: list[Hit], index: "VectorIndex") -> tuple[list[Hit], dict[str, NDArray[np.float32]]]:
    """Hits and their vectors, without hits that another thread has removed since."""
    vectors = index.vectors([hit.id for hit in hits])
    return [hit for hit in hits if hit.id in vectors], vectors


def _check(wanted: Wanted) -> None:
    if wanted.k < 1:
        raise InvalidInput(f"k is {wanted.k}; it must be at least 1", value=wanted.k, where="k")
    if wanted.min_score is not None and math.isnan(wanted.min_score):
        raise InvalidInput(
            "min_score is not a number; give a cosine between -1 and 1, or None",
            value=wanted.min_score,
            where="min_score",
        )
    if wanted.strategy not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise InvalidInput(
            f"unknown strategy {wanted.strategy!r}; choose one of: {known}", value=wanted.strategy, where="strategy"
        )
    if not 0 <= wanted.diversity <= 1:
        raise InvalidInput(
            f"diversity is {wanted.diversity:g}; it must be from 0 to 1", value=wanted.diversity, where="diversity"
        )
    if wanted.unique is not None and not 0 < wanted.unique <= 1:
        raise InvalidInput(
            f"unique is {wanted.unique:g}; it must be a cosine above 0, up to 1 (start with 0.97)",
            value=wanted.unique,
            where="unique",
        )
