"""Folding and spreading, against their definitions written out the slow way."""

import numpy as np
import pytest

from tuwen.search.diversity import folded, spread
from tuwen.types import Hit


def made(count: int, seed: int = 0) -> tuple[list[Hit], dict[str, np.ndarray]]:
    """Hits around a query, in clusters, best first."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, 8))
    rows = centres[rng.integers(0, 5, count)] + rng.normal(scale=0.2, size=(count, 8))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    query = centres.sum(axis=0) / np.linalg.norm(centres.sum(axis=0))
    scores = rows @ query
    order = np.argsort(-scores)
    hits = [Hit(str(place), float(scores[row]), {"path": str(place)}) for place, row in enumerate(order)]
    return hits, {hit.id: rows[row] for hit, row in zip(hits, order, strict=True)}


@pytest.mark.parametrize("diversity", [0.1, 0.5, 0.9])
def test_spread_is_maximal_marginal_relevance(diversity: float) -> None:
    hits, vectors = made(60)
    chosen: list[Hit] = [hits[0]]
    while len(chosen) < 12:

        def relevance(hit: Hit) -> float:
            redundancy = max(float(vectors[hit.id] @ vectors[one.id]) for one in chosen)
            return (1 - diversity) * hit.score - diversity * redundancy

        chosen.append(max((hit for hit in hits if hit not in chosen), key=relevance))
    assert spread(hits, vectors, diversity, 12) == chosen


def test_hits_that_are_spread_are_less_alike() -> None:
    hits, vectors = made(60)

    def alike(found: list[Hit]) -> float:
        matrix = np.stack([vectors[hit.id] for hit in found])
        return float((matrix @ matrix.T)[np.triu_indices(len(found), 1)].mean())

    assert alike(spread(hits, vectors, 0.5, 10)) < alike(hits[:10]) - 0.1


def test_without_diversity_the_order_of_scores_stays() -> None:
    hits, vectors = made(20)
    assert spread(hits, vectors, 0.0, 7) == hits[:7]
    assert spread(hits, vectors, 0.5, 99)[0] == hits[0]
    assert len(spread(hits, vectors, 0.5, 99)) == 20
    assert spread([], {}, 0.5, 3) == []


def test_folding_keeps_the_best_and_names_the_rest() -> None:
    hits, vectors = made(40)
    kept = folded(hits, vectors, 0.9)
    ids = [row for hit in kept for row in (hit.id, *hit.similar)]
    assert sorted(ids) == sorted(hit.id for hit in hits)
    assert 1 < len(kept) < 40
    assert [hit.score for hit in kept] == sorted((hit.score for hit in kept), reverse=True)
    for place, hit in enumerate(kept):
        assert all(vectors[hit.id] @ vectors[other.id] < 0.9 for other in kept[:place])
        assert all(vectors[hit.id] @ vectors[row] >= 0.9 - 1e-6 for row in hit.similar)


def test_the_same_vector_folds_even_at_1() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        vector = rng.normal(size=512).astype(np.float32)
        vector /= np.linalg.norm(vector)
        pair = {"a": vector, "b": vector.copy()}
        assert folded([Hit("a", 0.5), Hit("b", 0.5)], pair, 1.0) == [Hit("a", 0.5, similar=("b",))]
    assert folded([], {}, 0.9) == []
