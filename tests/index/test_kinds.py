"""The kinds and metrics of an index, by every name they go by."""

from pathlib import Path

import numpy as np
import pytest
from making import FakeModel, rows, vectors

from tuwen.errors import InvalidInput
from tuwen.index.index import VectorIndex
from tuwen.index.manifest import read_manifest
from tuwen.index.store import Design, design
from tuwen.index.stores.qdrant_edge_shard import GRAPH_ABOVE


def test_old_names_mean_the_same() -> None:
    assert design("HNSW32", "IP") == design("hnsw", "cosine") == Design()
    assert design("Flat", "L2") == Design("flat", "l2")


@pytest.mark.parametrize(("option", "name"), [("kind", "tree"), ("metric", "hamming")])
def test_other_names_are_refused(place: Path, option: str, name: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        VectorIndex.create(place / "photos.tuwen", encoder=FakeModel(), **{option: name})
    assert (raised.value.where, raised.value.value) == (option, name)
    assert list(place.iterdir()) == []


def test_what_was_chosen_is_remembered(place: Path, model: FakeModel) -> None:
    folder = place / "photos.tuwen"
    with VectorIndex.create(folder, encoder=model, kind="flat", metric="l2") as index:
        assert (index.info().kind, index.info().metric) == ("flat", "l2")
    assert (read_manifest(folder).kind, read_manifest(folder).metric) == ("flat", "l2")


def test_a_flat_index_never_builds_a_graph(place: Path, model: FakeModel) -> None:
    made = rows(GRAPH_ABOVE + 500)
    with VectorIndex.create(place / "flat.tuwen", encoder=model, kind="flat", quantize_above=100) as index:
        index.upsert(made)
        index.optimize()
        assert not [path for path in index.folder.rglob("*") if path.name in ("graph.bin", "quantized.data")]
        query = vectors(1, seed=3)[0]
        cosines = np.stack([it.vector for it in made]).astype(np.float64) @ query
        hits = index.search(query, k=10)
        assert [hit.payload["path"] for hit in hits] == [made[i].key for i in np.argsort(-cosines)[:10]]
