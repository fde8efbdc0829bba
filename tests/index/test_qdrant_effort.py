"""Queries among the rows take the short walk, all others the long one."""

import numpy as np
import pytest
from making import FakeModel

from tuwen.index.index import Index
from tuwen.index.qdrant_effort import LONG, SAMPLE, SHORT, beam, centre_of
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


def test_a_picture_takes_the_short_walk_and_a_text_the_long_one(pictures: np.ndarray) -> None:
    centre = centre_of(pictures[:SAMPLE])
    assert centre is not None
    assert {beam(it, centre, 10) for it in pictures} == {SHORT}
    text = unit(np.eye(DIM)[1] + 0.3 * pictures[0])
    assert beam(text, centre, 10) == LONG
    assert beam(pictures[0], centre, 500) == beam(text, centre, 500) == 1000


def test_rows_that_share_nothing_have_no_short_walk() -> None:
    rows = unit(np.random.default_rng(1).normal(size=(SAMPLE, DIM)))
    assert centre_of(rows) is None
    assert beam(rows[0], None, 10) == LONG


def test_an_index_finds_the_same_by_either(pictures: np.ndarray, tmp_path) -> None:
    with Index.create(tmp_path / "photos.tuwen", encoder=FakeModel(dim=DIM)) as index:
        index.upsert([Row(f"{i}.jpg", vector, {}) for i, vector in enumerate(pictures)])
        for i in range(0, 400, 40):
            near, exact = index.search(pictures[i]), index.search(pictures[i], exact=True)
            assert [hit.payload["path"] for hit in near] == [hit.payload["path"] for hit in exact]
            assert near[0].payload["path"] == f"{i}.jpg"
