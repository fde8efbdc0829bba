"""Real vectors of OpenAI's ViT-B/32: every store, with a graph, lists and int8, finds what comparing all finds."""

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from backends import DESIGNS, Backend
from making import FakeModel, paths, unit

from local_cluster import LOCAL_MODE_SAYS, local_cluster
from tuwen.index.index import VectorIndex
from tuwen.index.stores import qdrant_edge as qdrant
from tuwen.index.stores import qdrant_edge_shard as qdrant_shard
from tuwen.types import Row

pytestmark = [pytest.mark.filterwarnings(f"ignore:{said}") for said in LOCAL_MODE_SAYS]
MODEL = FakeModel("ViT-B-32", dim=512)
INT8 = "edge-hnsw-int8"


@pytest.fixture(scope="module")
def rows(shared_data: Path) -> list[Row]:
    """A text each for the names of four data sets: `lvis/1` is LVIS' first."""
    folder = shared_data / "vectors" / "detic"
    made = []
    for name in ("lvis_v1_clip_a+cname", "coco_clip_a+cname", "o365_clip_a+cnamefix", "oid_clip_a+cname"):
        vectors = unit(np.load(folder / f"{name}.npy").astype(np.float32))
        made += [Row(f"{name}/{i}", vector, {"type": "text", "text": f"{i}"}) for i, vector in enumerate(vectors, 1)]
    return made


@pytest.fixture(scope="module")
def photo(shared_data: Path) -> np.ndarray:
    return unit(np.load(shared_data / "vectors" / "jina_clip_vitb32" / "image_expected.npy").astype(np.float32))[0]


@pytest.fixture(
    scope="module",
    params=[
        INT8,
        "faiss-ivf",
        *(pytest.param(name, marks=pytest.mark.long) for name in DESIGNS if name != "faiss-ivf"),
    ],
)
def index(request: pytest.FixtureRequest, rows: list[Row], memory: Path) -> Iterator[VectorIndex]:
    """All rows in one store, built into whatever it builds: Qdrant Edge is told to do so for a tenth as many."""
    with pytest.MonkeyPatch.context() as patch, local_cluster(patch) as cluster, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(qdrant_shard, "GRAPH_ABOVE", 500)
        patch.setattr(qdrant, "GRAPH_ABOVE", 500)
        patch.setattr(qdrant, "build", qdrant_shard.optimize)  # in this process, which has been told
        place = cluster if request.param == "cluster" else memory / f"real-{request.param}.tuwen"
        backend = Backend("edge-hnsw" if request.param == INT8 else request.param, place)
        with backend.create(MODEL, quantize_above=1_000 if request.param == INT8 else 10**9) as index:
            index.upsert(rows)
            index.optimize()
            check_built(index, request.param)
            yield index
    if isinstance(place, Path):
        shutil.rmtree(place)


def check_built(index: VectorIndex, name: str) -> None:
    files = [path.name for path in index.folder.rglob("*")] if index.folder else []
    assert any("quantized" in file for file in files) == (name == INT8)
    assert any(file.startswith(("graph", "hnsw-", "links")) for file in files) == ("hnsw" in name)
    assert index.info().searched == index.info().kind


def agreement(index: VectorIndex, rows: list[Row], query: np.ndarray) -> float:
    """The share of ten hits that are as near as the ten nearest: names that two data sets share are equal."""
    cosines = np.stack([row.vector for row in rows]).astype(np.float64) @ query.astype(np.float64)
    by_key = dict(zip((row.key for row in rows), cosines, strict=True))
    tenth = np.sort(cosines)[-10]
    hits = index.search(query, k=10)
    for hit in hits:
        assert hit.score == pytest.approx(by_key[str(hit.payload["path"])], abs=2e-6)
    return sum(by_key[key] >= tenth - 1e-6 for key in paths(hits)) / 10


def test_the_ten_nearest_are_found(index: VectorIndex, rows: list[Row], photo: np.ndarray, shared_data: Path) -> None:
    texts = unit(np.load(shared_data / "vectors" / "jina_clip_vitb32" / "text_expected_batch.npy"))
    queries = [photo, *texts.reshape(-1, 512).astype(np.float32), *(row.vector for row in rows[::20])]
    assert len(queries) > 100
    assert np.mean([agreement(index, rows, query) for query in queries]) >= 0.99


def test_the_photo_s_names_are_cap_hat_turban(index: VectorIndex, photo: np.ndarray, shared_data: Path) -> None:
    listed = json.loads((shared_data / "vectors" / "detic" / "lvis_v1_train_cat_info.json").read_text())
    names = {f"lvis_v1_clip_a+cname/{entry['id']}": entry["name"] for entry in listed}
    hits = index.search(photo, k=3, where='path startswith "lvis"')
    assert [names[key] for key in paths(hits)] == ["cap_(headwear)", "hat", "turban"]
