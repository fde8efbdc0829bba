"""With rows enough for a graph, and then for int8: what is found, how exactly, and what is rebuilt when."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from making import FakeModel, row, rows, unit, vectors

from conftest import copied
from tuwen.index.index import VectorIndex
from tuwen.index.stores.qdrant_edge_shard import GRAPH_ABOVE

COUNT = GRAPH_ABOVE + 2_000
INT8_ABOVE = GRAPH_ABOVE + 2_500
MADE = rows(COUNT)
PLACES = {it.key: i for i, it in enumerate(MADE)}
PICTURES = np.stack([it.vector for it in MADE])
QUERIES = unit(vectors(40, seed=3) + vectors(40, seed=4))


@pytest.fixture(scope="module")
def built(empty: Path, memory: Path) -> Iterator[VectorIndex]:
    with VectorIndex.open(
        copied(empty, memory / "built.tuwen"), encoder=FakeModel(), quantize_above=INT8_ABOVE
    ) as index:
        index.upsert(MADE)
        index.optimize()
        yield index


def segments(index: VectorIndex) -> set[str]:
    return {path.name for path in (index.folder / "shard" / "segments").iterdir()}


def has(index: VectorIndex, name: str) -> bool:
    return any(name in path.name for path in (index.folder / "shard" / "segments").rglob("*"))


def recall(index: VectorIndex, kept: np.ndarray, **words) -> float:
    """recall@10 against numpy; every score must be the exact cosine."""
    found = []
    for query in QUERIES:
        cosines = PICTURES[kept].astype(np.float64) @ query.astype(np.float64)
        best = {MADE[kept[i]].key for i in np.argpartition(-cosines, 10)[:10]}
        hits = index.search(query, **words)
        assert len(hits) == 10
        for hit in hits:
            exact = PICTURES[PLACES[str(hit.payload["path"])]].astype(np.float64) @ query.astype(np.float64)
            assert hit.score == pytest.approx(exact, abs=1e-5)
        found.append(len({str(hit.payload["path"]) for hit in hits} & best))
    return float(np.mean(found)) / 10


def check(index: VectorIndex) -> None:
    everything = np.arange(COUNT)
    assert recall(index, everything) >= 0.99
    assert recall(index, everything, exact=True) == 1
    for where, keeps in (
        ("width < 1000", lambda it: it["width"] < 1_000),  # most rows: by the graph
        ('folder == "3"', lambda it: it["folder"] == "3"),  # a tenth: one by one
        ("width == 107", lambda it: it["width"] == 107),
    ):
        kept = np.array([i for i in everything if keeps(MADE[i].payload)])
        assert recall(index, kept, where=where) >= 0.99


@pytest.mark.long
def test_the_graph_finds_what_numpy_finds(built: VectorIndex) -> None:
    assert has(built, "graph.bin")
    assert not has(built, "quantized")
    check(built)


def test_few_new_rows_rebuild_nothing_and_are_found(built: VectorIndex) -> None:
    before = segments(built)
    new = row("new", QUERIES[0])
    built.upsert([new])
    built.optimize()
    assert segments(built) == before
    assert built.search(QUERIES[0], k=1)[0].payload["path"] == "new"
    assert built.remove(["new"]) == 1
    assert built.search(QUERIES[0], k=1)[0].payload["path"] != "new"


def test_grown_over_the_limit_it_keeps_int8_too(built: VectorIndex, place: Path) -> None:
    folder = copied(built.folder, place / "grown.tuwen")
    more = rows(1_000, seed=8, prefix="more/")
    with VectorIndex.open(folder, encoder=FakeModel(), quantize_above=INT8_ABOVE) as index:
        index.upsert(more)
        index.optimize()
        assert has(index, "quantized")
        assert index.info().rows == COUNT + 1_000
        assert index.remove([it.key for it in more]) == 1_000
        check(index)
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
