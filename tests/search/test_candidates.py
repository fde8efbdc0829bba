"""The formula of `best`, against its definition one row at a time, and against the engine that published it."""

import numpy as np
import pytest

from tuwen.search.search import best_score


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    rows = rng.normal(size=(count, 6)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("weights", [[1.0, 1.0, -1.0, -1.0], [1.0, 0.5, -2.0], [1.0, 1.0], [0.0, 1.0, -1.0]])
def test_the_score_is_that_of_the_nearest_example(weights: list[float]) -> None:
    rng = np.random.default_rng(0)
    rows, examples = unit(rng, 50), unit(rng, len(weights))
    for row, score in zip(rows, best_score(rows, examples, np.array(weights)), strict=True):
        cosines = [float(row @ example) for example in examples]
        liked = max(c * w for c, w in zip(cosines, weights, strict=True) if w > 0)
        unwanted = [c * -w for c, w in zip(cosines, weights, strict=True) if w < 0]
        expected = liked if not unwanted or liked > max(unwanted) else -(max(unwanted) ** 2)
        assert score == pytest.approx(expected, abs=1e-6)


def test_the_order_is_that_of_qdrant() -> None:
    """Where cosines are above 0, as those of pictures are: the engine squashes its scores, the order stays."""
    from qdrant_client import QdrantClient, models

    rng = np.random.default_rng(1)
    rows, examples = np.abs(unit(rng, 200)), np.abs(unit(rng, 5))
    weights = np.array([1.0, 1.0, 1.0, -1.0, -1.0])
    engine = QdrantClient(":memory:")
    engine.create_collection("rows", models.VectorParams(size=6, distance=models.Distance.COSINE))
    engine.upsert("rows", [models.PointStruct(id=i, vector=row.tolist()) for i, row in enumerate(rows)])
    wanted = models.RecommendInput(
        positive=examples[:3].tolist(), negative=examples[3:].tolist(), strategy=models.RecommendStrategy.BEST_SCORE
    )
    theirs = [
        it.id for it in engine.query_points("rows", query=models.RecommendQuery(recommend=wanted), limit=200).points
    ]
    assert theirs == list(np.argsort(-best_score(rows, examples, weights)))
    engine.close()
