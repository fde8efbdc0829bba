"""Groups against every pair compared, and then joined the slow way."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tuwen.errors import InvalidInput
from tuwen.index.index import VectorIndex
from tuwen.search.duplicates import PAGE, Duplicates, Groups, Searched
from tuwen.types import Row

DIM = 24


@dataclass
class FakeModel:
    name: str = "fake"
    dim: int = DIM
    fingerprint: str = "0123456789abcdef"
    precision: str = "fp32"


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def made(count: int, near: int) -> np.ndarray:
    """Rows of which `near` are a little off an earlier one: also off one that is off another, and so on."""
    rng = np.random.default_rng(0)
    rows = list(unit(rng.normal(size=(count - near, DIM))))
    for _ in range(near):
        rows.append(unit(rows[rng.integers(len(rows))] + rng.normal(scale=0.05, size=DIM)))
    return np.stack(rows)


def fill(index: VectorIndex, vectors: np.ndarray, contents: list[str] | None = None, **facts) -> None:
    index.upsert(
        [
            Row(
                f"{i:05}.jpg",
                vector,
                {"content": contents[i] if contents else f"sha {i}", "type": "image", **facts},
            )
            for i, vector in enumerate(vectors)
        ]
    )


@pytest.fixture
def index(tmp_path: Path):
    with VectorIndex.create(tmp_path / "i.tuwen", encoder=FakeModel()) as index:
        yield index


def found(index: VectorIndex, threshold: float) -> set[frozenset[int]]:
    search = Duplicates(index, threshold)
    for _ in search:
        pass
    return {frozenset(int(str(row.payload["path"])[:5]) for row in group) for group in search.groups()}


def expected(vectors: np.ndarray, threshold: float) -> set[frozenset[int]]:
    near = vectors @ vectors.T >= threshold
    groups = {i: frozenset([i]) for i in range(len(vectors))}
    for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True):
        both = groups[i] | groups[j]
        groups.update(dict.fromkeys(both, both))
    return {group for group in groups.values() if len(group) > 1}


def test_groups_are_all_pairs_joined(index) -> None:
    vectors = made(600, near=150)
    fill(index, vectors)
    groups = expected(vectors, 0.97)
    assert 20 < len(groups) < 150
    assert max(map(len, groups)) > 2
    assert found(index, 0.97) == groups


def test_more_neighbours_than_are_asked_for_at_first(index) -> None:
    rng = np.random.default_rng(2)
    one, other = unit(rng.normal(size=(2, DIM)))
    vectors = unit(np.concatenate([one + rng.normal(scale=0.001, size=(90, DIM)), other[None]]))
    fill(index, vectors)
    assert found(index, 0.99) == {frozenset(range(90))}


def test_copies_are_found_by_content_and_searched_for_once(index) -> None:
    vectors = np.repeat(made(40, near=0), 30, axis=0)
    fill(index, vectors, [f"sha {i // 30}" for i in range(1200)])
    search = Duplicates(index, 1.0)
    assert list(search) == [Searched(40, 40)]
    assert [len(group) for group in search.groups()] == [30] * 40


def test_it_goes_page_by_page(index) -> None:
    fill(index, made(PAGE + 7, near=0))
    steps = list(Duplicates(index, 0.99))
    assert steps == [Searched(PAGE, PAGE + 7), Searched(PAGE + 7, PAGE + 7)]


def test_the_largest_picture_of_the_largest_group_comes_first(index) -> None:
    vectors = made(5, near=0)
    sizes = {"a": (10, 9), "b": (20, 7), "c": (20, 8), "d": (1, 1), "e": (1, 1)}
    rows = [
        Row(key, vectors[0 if key in "abc" else 1], {"width": width, "height": 10, "bytes": size, "content": key})
        for key, (width, size) in sizes.items()
    ]
    index.upsert(rows)
    search = Duplicates(index, 0.97)
    assert len(list(search)) == 1
    assert [[row.payload["path"] for row in group] for group in search.groups()] == [["c", "b", "a"], ["d", "e"]]


def test_nothing_is_found_in_nothing(index) -> None:
    assert found(index, 0.97) == set()


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, 97.0, float("nan")])
def test_a_threshold_is_a_cosine(filled, threshold: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        Duplicates(filled, threshold)
    assert caught.value.value is threshold


def test_groups_join() -> None:
    groups = Groups(6)
    groups.join(4, 2)
    groups.join(2, 5)
    groups.join(1, 0)
    groups.join(0, 1)
    assert groups.several() == [[0, 1], [2, 4, 5]]
