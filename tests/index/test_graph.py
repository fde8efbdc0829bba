"""With rows enough for a graph, and then for int8: what is found, how exactly, and what is rebuilt when."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from making import FakeModel, row, rows, unit, vectors

from conftest import copied
from tuwen.index.index import VectorIndex
from tuwen.index.stores import qdrant_edge, qdrant_edge_shard
from tuwen.types import Row

FEWER = 2_000
"""rows from which a graph is built here, in a tenth of the time"""
QUERIES = unit(vectors(40, seed=3) + vectors(40, seed=4))


@pytest.fixture(scope="module", params=[FEWER, pytest.param(qdrant_edge.GRAPH_ABOVE, marks=pytest.mark.long)])
def made(request: pytest.FixtureRequest) -> Iterator[list[Row]]:
    """Rows enough for a graph: with the limit lowered, or with its own."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == FEWER:
            patch.setattr(qdrant_edge, "GRAPH_ABOVE", FEWER)
            patch.setattr(qdrant_edge_shard, "GRAPH_ABOVE", FEWER)
            patch.setattr(qdrant_edge, "build", qdrant_edge_shard.optimize)  # in this process, which has been told
        yield rows(request.param + request.param // 10)


@pytest.fixture(scope="module")
def int8_above(made: list[Row]) -> int:
    """More than there are."""
    return len(made) + 500


@pytest.fixture(scope="module")
def built(made: list[Row], int8_above: int, empty: Path, memory: Path) -> Iterator[VectorIndex]:
    with VectorIndex.open(
        copied(empty, memory / f"built-{len(made)}.tuwen"), encoder=FakeModel(), quantize_above=int8_above
    ) as index:
        index.upsert(made)
        index.optimize()
        yield index


def segments(index: VectorIndex) -> set[str]:
    return {path.name for path in (index.folder / "shard" / "segments").iterdir()}


def has(index: VectorIndex, name: str) -> bool:
    return any(name in path.name for path in (index.folder / "shard" / "segments").rglob("*"))


def recall(index: VectorIndex, kept: list[Row], **words) -> float:
    """recall@10 against numpy; every score must be the exact cosine."""
    found = []
    pictures = np.stack([it.vector for it in kept]).astype(np.float64)
    for query in QUERIES:
        cosines = pictures @ query.astype(np.float64)
        best = {kept[i].key for i in np.argpartition(-cosines, 10)[:10]}
        exact = {it.key: cosine for it, cosine in zip(kept, cosines, strict=True)}
        hits = index.search(query, **words)
        assert len(hits) == 10
        for hit in hits:
            assert hit.score == pytest.approx(exact[str(hit.payload["path"])], abs=1e-5)
        found.append(len({str(hit.payload["path"]) for hit in hits} & best))
    return float(np.mean(found)) / 10


def check(index: VectorIndex, made: list[Row]) -> None:
    assert recall(index, made) >= 0.99
    assert recall(index, made, exact=True) == 1
    for where, keeps in (
        ("width < 1000", lambda it: it["width"] < 1_000),  # most rows: by the graph
        ('folder == "3"', lambda it: it["folder"] == "3"),  # a tenth: one by one
        ("width < 110", lambda it: it["width"] < 110),
    ):
        assert recall(index, [it for it in made if keeps(it.payload)], where=where) >= 0.99


def test_the_graph_finds_what_numpy_finds(built: VectorIndex, made: list[Row]) -> None:
    assert has(built, "graph.bin")
    assert not has(built, "quantized")
    check(built, made)


def test_few_new_rows_rebuild_nothing_and_are_found(built: VectorIndex) -> None:
    before = segments(built)
    new = row("new", QUERIES[0])
    built.upsert([new])
    built.optimize()
    assert segments(built) == before
    assert built.search(QUERIES[0], k=1)[0].payload["path"] == "new"
    assert built.remove(["new"]) == 1
    assert built.search(QUERIES[0], k=1)[0].payload["path"] != "new"


def test_grown_over_the_limit_it_keeps_int8_too(
    built: VectorIndex, made: list[Row], int8_above: int, place: Path
) -> None:
    folder = copied(built.folder, place / "grown.tuwen")
    more = rows(1_000, seed=8, prefix="more/")
    with VectorIndex.open(folder, encoder=FakeModel(), quantize_above=int8_above) as index:
        index.upsert(more)
        index.optimize()
        assert has(index, "quantized")
        assert index.info().rows == len(made) + 1_000
        assert index.remove([it.key for it in more]) == 1_000
        check(index, made)
    with VectorIndex.open(folder, encoder=None, quantize_above=10**9) as index:
        before = segments(index)
        index.optimize()
        assert segments(index) == before
        assert has(index, "quantized"), "what is kept stays"


def test_the_shard_is_set_up_to_be_mapped(built: VectorIndex) -> None:
    """Whole vectors in anonymous memory would be those of every process that only searches."""
    settings = json.loads((built.folder / "shard" / "edge_config.json").read_text())
    assert settings["vectors"][""]["memory"] == settings["hnsw_config"]["memory"] == "cold"
    assert settings["payload_memory"] == "cold"
