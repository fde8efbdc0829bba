"""Queries among the rows take the short walk, all others the long one; both grow with the rows."""

import numpy as np
import pytest
from making import FakeModel

from tuwen.index.index import VectorIndex
from tuwen.index.stores.hnsw_ef import LONG, SHORT, centre_of, ef_for, is_among
from tuwen.index.stores.qdrant_edge import SAMPLE
from tuwen.types import Row

DIM = 64


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def pictures() -> np.ndarray:
    """Rows that share a direction: two of them have a cosine of about a half."""
    random = np.random.default_rng(0)
    noise = unit(random.normal(size=(400, DIM)))
    noise[:, 0] = 0
    return unit(noise + np.eye(DIM)[0])


def test_a_picture_is_among_pictures_and_a_text_is_not(pictures: np.ndarray) -> None:
    centre = centre_of(pictures[:SAMPLE])
    assert centre is not None
    assert all(is_among(it, centre) for it in pictures)
    assert not is_among(unit(np.eye(DIM)[1] + 0.3 * pictures[0]), centre)


def test_rows_that_share_nothing_have_no_query_among_them() -> None:
    rows = unit(np.random.default_rng(1).normal(size=(SAMPLE, DIM)))
    assert centre_of(rows) is None
    assert not is_among(rows[0], None)


def test_a_walk_is_longer_among_more_rows_and_for_more_hits() -> None:
    assert [ef_for(rows, 10) for rows in (1_000, 100_000, 1_000_000)] == [LONG, LONG, 723]
    assert [ef_for(rows, 10, among=True) for rows in (1_000, 1_000_000, 10_000_000)] == [SHORT, SHORT, 241]
    assert ef_for(1_000, 500) == ef_for(1_000, 500, among=True) == 1_000


def test_an_index_finds_the_same_by_either(pictures: np.ndarray, tmp_path) -> None:
    with VectorIndex.create(tmp_path / "photos.tuwen", encoder=FakeModel(dim=DIM)) as index:
        index.upsert([Row(f"{i}.jpg", vector, {}) for i, vector in enumerate(pictures)])
        for i in range(0, 400, 40):
            near, exact = index.search(pictures[i]), index.search(pictures[i], exact=True)
            assert [hit.payload["path"] for hit in near] == [hit.payload["path"] for hit in exact]
            assert near[0].payload["path"] == f"{i}.jpg"
