"""One suite for every store: what callers of an index rely on, whatever keeps its rows."""

import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from backends import DESIGNS, Backend, real_cluster
from killing import OPTIMIZE, check_all, kill_writers, killed, start
from making import DIM, FakeModel, paths, payload, row, rows, vectors

from local_cluster import LOCAL_MODE_SAYS, local_cluster
from tuwen.errors import IndexLocked, IndexNotFound, InvalidInput, InvalidVectors, WrongModel
from tuwen.index.calibration import Calibration, Threshold
from tuwen.index.index import VectorIndex
from tuwen.index.stores import faiss as faiss_finder
from tuwen.types import Row

pytestmark = [pytest.mark.filterwarnings(f"ignore:{said}") for said in LOCAL_MODE_SAYS]

MEASURED = {"false_accept": 0.1, "false_reject": None, "matching": 0, "unmatching": 9, "rows": 3, "created": "now"}
FEW, MANY = 60, 1_500
"""rows that nobody would build anything for, and enough for lists and for more than one build"""


SERVER = pytest.param("server", marks=pytest.mark.cluster)
THREADED = [*(design for design in DESIGNS if design != "cluster"), SERVER]
"""all but qdrant-client's local mode, which is not made for threads"""


OFTEN = [  # with so few rows, edge-hnsw builds no graph either
    pytest.param(name, marks=pytest.mark.long) if name == "edge-flat" else name for name in DESIGNS
]


@pytest.fixture(params=[*OFTEN, SERVER])
def backend(request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    if request.param == "server":
        with real_cluster() as cluster:
            yield Backend("cluster", cluster)
    elif request.param == "cluster":
        with local_cluster(monkeypatch) as cluster:
            yield Backend("cluster", cluster)
    else:
        yield Backend(request.param, place / "photos.tuwen")


@pytest.fixture
def folder_home(request: pytest.FixtureRequest, place: Path) -> Backend:
    return Backend(request.param, place / "photos.tuwen")


@pytest.fixture
def index(backend: Backend) -> Iterator[VectorIndex]:
    with backend.create() as index:
        yield index


def nearest(made: list[Row], query: np.ndarray, k: int = 10) -> list[str]:
    cosines = np.stack([it.vector for it in made]).astype(np.float64) @ query.astype(np.float64)
    return [made[i].key for i in np.argsort(-cosines)[:k]]


def agreement(index: VectorIndex, made: list[Row], count: int = 20, **words) -> float:
    """The share of the ten nearest that is found."""
    queries = vectors(count, seed=3)
    return float(np.mean([len({*paths(index.search(it, **words))} & {*nearest(made, it)}) / 10 for it in queries]))


# New, empty, wrong


def test_a_new_index_is_empty_and_knows_what_it_is(index: VectorIndex, backend: Backend) -> None:
    info = index.info()
    assert (info.rows, info.dim, info.kind, info.model) == (0, DIM, backend.kind(), "fake")
    query = vectors(1)[0]
    assert index.search(query) == index.search(query, where="width > 3", exact=True) == []
    assert list(index.list()) == []
    assert index.remove(["gone"]) == 0
    assert index.payloads(["gone"]) == index.get(["gone"]) == index.vectors_of(["gone"]) == {}
    index.optimize()
    assert index.search(query) == []
    with pytest.raises(InvalidInput) as raised:
        backend.create()
    assert str(raised.value.where) == str(backend.place)


def test_what_is_wrong_is_refused(index: VectorIndex, backend: Backend) -> None:
    short = Row("short", vectors(1, dim=DIM - 1)[0], payload("short"))
    with pytest.raises(InvalidVectors) as added:
        index.upsert([row("good"), short])
    assert (added.value.where, added.value.value) == ("short", (DIM - 1,))
    with pytest.raises(InvalidVectors) as query:
        index.search(short.vector)
    assert (query.value.where, query.value.value) == ("query", (DIM - 1,))
    assert index.info().rows == 0, "nothing of the batch is written"
    index.close()
    for other in (FakeModel("other", fingerprint="f" * 16), FakeModel("other", dim=DIM + 1)):
        with pytest.raises(WrongModel, match="fake") as raised:
            backend.open(other)
        assert raised.value.value == "other"
    backend.open(FakeModel("renamed", precision="int8")).close()


def test_nothing_is_there_to_open(backend: Backend) -> None:
    with pytest.raises(IndexNotFound) as raised:
        backend.open()
    assert "tuwen index build" in raised.value.hint


def test_what_was_measured_is_kept_of_its_own_model(index: VectorIndex, backend: Backend) -> None:
    assert index.calibration() is None
    one, other = (
        Calibration(fingerprint=FakeModel().fingerprint, image=Threshold(threshold=value, **MEASURED))
        for value in (0.25, 0.75)
    )
    index.calibrate(one)
    index.upsert(rows(3))  # notes the precision beside it
    index.calibrate(other)
    assert index.calibration() == other
    index.close()
    with backend.open() as again:
        assert again.calibration() == other
        again.calibrate(one.model_copy(update={"fingerprint": "another"}))
        assert again.calibration() is None
        assert again.info().precisions == ("fp32",)


# Rows come and go


def test_rows_come_and_go_while_searches_stay_right(index: VectorIndex) -> None:
    made = rows(MANY)
    index.upsert(made[:1_000])
    assert agreement(index, made[:1_000]) == 1
    index.optimize()
    assert agreement(index, made[:1_000]) >= 0.99
    index.upsert(made[1_000:])  # appended after the build
    assert agreement(index, made) >= 0.99
    doomed = {it.key for it in made[::3]}
    assert index.remove([*doomed, "gone", *doomed]) == len(doomed)
    left = [it for it in made if it.key not in doomed]
    assert index.info().rows == len(left)
    assert agreement(index, left) >= 0.99
    assert agreement(index, left, exact=True) == 1
    index.optimize()
    assert agreement(index, left) >= 0.99
    assert agreement(index, left, exact=True) == 1
    assert [it.payload for it in index.list()] == [it.payload for it in sorted(left, key=lambda it: it.key)]


def test_removed_to_the_last_and_filled_again(index: VectorIndex) -> None:
    made = rows(MANY)
    for _ in range(2):
        index.upsert(made)
        index.optimize()
        assert index.remove([it.key for it in made]) == MANY
        assert index.search(made[0].vector) == []
        index.optimize()
        assert index.search(made[0].vector) == []
        assert index.info().rows == 0
    index.upsert(made[:3])
    assert paths(index.search(made[1].vector, k=1)) == [made[1].key]


def test_a_row_that_is_written_again_is_replaced_as_a_whole(index: VectorIndex) -> None:
    made = rows(FEW)
    index.upsert([*made, row("a", made[0].vector, note="old")])
    index.optimize()
    ids = {it.payload["path"]: it.id for it in index.list()}
    new = vectors(1, seed=77)[0]
    index.upsert([row("a", made[1].vector, width=1), row("a", new, width=2)])  # of one key twice the last wins
    assert index.info().rows == FEW + 1
    assert index.payloads(["a"]) == {"a": payload("a", width=2)}
    (hit,) = index.search(new, k=1)
    assert (hit.id, hit.score) == (ids["a"], pytest.approx(1, abs=1e-6))
    assert "a" not in paths(index.search(made[0].vector, k=1))
    index.optimize()
    assert {it.payload["path"]: it.id for it in index.list()} == ids, "ids never shift"


def test_another_payload_leaves_the_vector(index: VectorIndex) -> None:
    made = rows(FEW)
    index.upsert(made)
    index.optimize()
    index.update_payloads({made[3].key: payload(made[3].key, width=9, modified=1.7e9 + 1 / 3)})
    assert index.payloads([made[3].key])[made[3].key]["modified"] == 1.7e9 + 1 / 3
    assert paths(index.search(made[3].vector, k=1, where="width == 9")) == [made[3].key]
    with pytest.raises(InvalidInput) as raised:
        index.update_payloads({"gone": payload("gone")})
    assert raised.value.value == "gone"


# Search


def test_k_threshold_and_filter(index: VectorIndex) -> None:
    made = rows(MANY)
    index.upsert(made)
    index.optimize()
    query = vectors(1, seed=9)[0]
    everything = index.search(query, k=2 * MANY, exact=True)
    assert paths(everything) == nearest(made, query, MANY)
    cosines = np.sort(np.stack([it.vector for it in made]).astype(np.float64) @ query)[::-1]
    np.testing.assert_allclose([hit.score for hit in everything], cosines, atol=1e-6)
    assert len(index.search(query, k=MANY)) == MANY
    assert index.search(query, k=3, exact=True) == everything[:3]
    assert index.search(query, k=9, min_score=everything[4].score, exact=True) == everything[:5]
    assert index.search(query, min_score=1.5) == []
    for where in ('folder == "3" and width >= 200', "width < 105", "height > 0", "not width < 1090"):
        kept = {str(it.payload["path"]) for it in index.list(where)}
        left = [it for it in made if it.key in kept]
        assert agreement(index, left, count=6, where=where) >= 0.99, where
    assert index.search(query, where='folder == "nowhere"') == []


def test_all_rows_at_a_glance(index: VectorIndex) -> None:
    assert (index.count(), list(index.keys()), index.values("folder"), index.bounds("modified")) == (
        0,
        [],
        {},
        None,
    )
    made = rows(FEW)
    note = {"path": "a.txt/1", "type": "text", "text": "a cat", "folder": "a.txt", "content": "c", "modified": 3.25}
    index.upsert([*made, row("top", width=7, modified=2e9 + 1 / 3), Row("a.txt/1", made[0].vector, note)])
    index.optimize()
    every = [it.payload for it in index.list()]
    assert list(index.keys()) == sorted(it["path"] for it in every)
    assert index.count() == FEW + 2
    assert index.values("folder") == Counter(it["folder"] for it in every)
    assert index.values("type") == {"image": FEW + 1, "text": 1}
    assert index.bounds("modified") == (3.25, 2e9 + 1 / 3)
    assert index.bounds("width") == (7, 100 + FEW - 1), "a text has none"
    kept = [it.key for it in made if it.payload["folder"] == "3"]
    assert list(index.keys('folder == "3"')) == sorted(kept)
    assert index.count('folder == "3"') == len(kept)
    index.remove(["top", "a.txt/1", *kept])
    assert index.bounds("modified") == (1.7e9, 1.7e9 + (FEW - 1) / 7)
    assert index.values("type") == {"image": FEW - len(kept)}
    assert "3" not in index.values("folder")
    assert index.count() == len(index.keys()) == FEW - len(kept)
    index.update_payloads({made[0].key: payload(made[0].key, folder="new", width=9_999)})
    assert index.values("folder")["new"] == 1
    assert index.bounds("width") == (101, 9_999)
    for wrong in ("width", "colour"):
        with pytest.raises(InvalidInput, match=wrong):
            index.values(wrong)
    with pytest.raises(InvalidInput, match="folder"):
        index.bounds("folder")


def test_rows_in_the_order_of_a_field_and_counts_of_its_values(index: VectorIndex) -> None:
    days = {"a": (2023, 5, 1), "b": (2021, 12, 31), "c": (2023, 1, 1)}
    taken = {key: datetime(*day, 12).timestamp() for key, day in days.items()}  # type: ignore[arg-type]
    cameras = {"a": "Canon", "b": "Nikon", "c": "Canon"}
    index.upsert([row(key, taken=taken[key], camera=cameras[key], taken_zone="local") for key in days] + [row("d")])
    assert list(index.keys(sort="taken")) == ["b", "c", "a", "d"]
    assert list(index.keys(sort="-taken")) == ["a", "c", "b", "d"]
    assert list(index.keys('camera == "Canon"', sort="-path")) == ["c", "a"]
    assert [it.payload["path"] for it in index.list("taken >= 2023", sort="taken")] == ["c", "a"]
    assert index.facets("year") == {"2021": 1, "2023": 2}
    assert index.facets("month", 'camera == "Canon" or camera == "Nikon"') == {"2021-12": 1, "2023-01": 1, "2023-05": 1}
    assert index.periods("month", "modified") == index.periods("month", "modified", 'type == "image"')
    assert index.facets("camera") == {"Canon": 2, "Nikon": 1}
    assert index.facets("camera", "taken >= 2023") == {"Canon": 2}
    assert index.facets("taken_zone") == {"local": 3}
    for wrong in ("colour", "width"):
        with pytest.raises(InvalidInput):
            index.facets(wrong)
    with pytest.raises(InvalidInput):
        index.keys(sort="colour")


def test_equal_rows_are_all_found_and_stand_by_key(index: VectorIndex) -> None:
    same = vectors(1)[0]
    keys = ["b", "a", "ä", "0", "c/1", "Z"]
    index.upsert([row(key, same, content="one") for key in keys])
    index.optimize()
    hits = index.search(same, k=10)
    assert paths(hits) == sorted(keys)
    assert {hit.score for hit in hits} == {hits[0].score}
    assert set(index.vectors_of(["one"])) == {"one"}


def test_ids_and_keys_of_every_script(index: VectorIndex) -> None:
    keys = ["2023/夏/猫 & 犬.jpg", "😀.png", "e\u0301", "é", " ", "q\"u'o\\te\n\t.jpg", "x" * 4_000, "a\0b"]
    made = [row(key, vector) for key, vector in zip(keys, vectors(len(keys)), strict=True)]
    index.upsert(made)
    index.optimize()
    found = {str(it.payload["path"]): it.id for it in index.list()}
    assert sorted(found) == sorted(keys)
    kept = index.vectors(list(found.values()))
    for it in made:
        assert paths(index.search(it.vector, k=1)) == [it.key]
        np.testing.assert_allclose(kept[found[it.key]], it.vector, atol=1e-6)
    assert [it.payload["path"] for it in index.list('path contains "猫"')] == [keys[0]]
    assert index.remove(keys) == len(keys)


# Opened again, opened twice, killed


def test_reopened_everything_is_there(backend: Backend) -> None:
    made = rows(MANY)
    with backend.create() as index:
        index.upsert(made[:1_200])
        index.optimize()
        index.upsert(made[1_200:])
        index.remove([made[0].key, made[-1].key])
    with backend.open() as index:
        assert [it.payload for it in index.list()] == [it.payload for it in sorted(made[1:-1], key=lambda it: it.key)]
        assert agreement(index, made[1:-1]) >= 0.99


def test_two_at_once(index: VectorIndex, backend: Backend) -> None:
    """A folder is one process', and says so; a cluster is everybody's."""
    made = rows(FEW)
    index.upsert(made)
    if isinstance(backend.place, Path):
        with pytest.raises(IndexLocked) as raised:
            backend.open(lock_timeout=0)
        assert raised.value.value == os.getpid()
        return
    with backend.open(FakeModel(precision="bf16")) as other:
        assert other.info().rows == FEW
        other.upsert([row("other", made[0].vector)])
    assert index.info().rows == FEW + 1
    with backend.open() as third:
        assert third.info().precisions == ("bf16", "fp32")


@pytest.mark.parametrize("backend", THREADED, indirect=True)
def test_threads_search_while_one_writes(index: VectorIndex) -> None:
    made = rows(400)
    index.upsert(made[:200])
    wrong: list[object] = []

    def search(seed: int) -> None:
        for it in made[seed:200:20]:
            wrong.extend(hit for hit in index.search(it.vector, k=1) if hit.payload["path"] != it.key)

    def write() -> None:
        for first in range(200, 400, 50):
            index.upsert(made[first : first + 50])
            index.optimize()

    threads = [threading.Thread(target=search, args=(seed,)) for seed in range(3)]
    threads.append(threading.Thread(target=write))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert index.info().rows == 400


@pytest.mark.parametrize("folder_home", ["edge-flat", "faiss-hnsw", "faiss-ivf"], indirect=True)
def test_writers_are_killed(folder_home: Backend) -> None:
    folder_home.create().close()
    kill_writers(folder_home.place, times=3, seed=1)


@pytest.mark.parametrize("folder_home", ["faiss-hnsw", "faiss-ivf"], indirect=True)  # Edge: see test_kills.py
def test_builders_are_killed(folder_home: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """At random moments of a build, and of one that compacts."""
    made = rows(3_000)
    chance = random.Random(1)
    with folder_home.create() as index:
        index.upsert(made[:2_000])
        index.optimize()
        index.upsert(made)
    for _ in range(2):
        killed(start("-c", OPTIMIZE, folder_home.place, 1_000), 1, chance.random())
        with folder_home.open(lock_timeout=5) as index:
            check_all(index, made, chance)
            index.remove([it.key for it in made[:1_000]])
            index.upsert(made[:1_000])
    with folder_home.open() as index:
        monkeypatch.setattr(faiss_finder, "DUE", 0)
        index.optimize()
        check_all(index, made, chance)
    assert len(list(folder_home.place.rglob("*.faiss"))) <= 1, "what a killed build left behind is cleared away"
