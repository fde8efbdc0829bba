"""An index's life: opened, made, closed, shared between threads and processes; with the real store."""

import os
import signal
import threading
from pathlib import Path

import pytest
from making import DIM, FakeModel, paths, rows, vectors

from tuwen.errors import IndexFault, IndexInvalid, IndexLocked, IndexNotFound, InvalidInput, WrongModel
from tuwen.index.index import VectorIndex


def test_reopened_everything_is_there(folder: Path, model: FakeModel) -> None:
    made = rows(40)
    with VectorIndex.open(folder, encoder=model) as index:
        index.upsert(made)
    with VectorIndex.open(str(folder), encoder=None) as index:
        assert [it.payload for it in index.list()] == [it.payload for it in sorted(made, key=lambda it: it.key)]
        assert paths(index.search(made[3].vector, k=1)) == [made[3].key]
        assert index.remove(["0/0.jpg"]) == 1
        with pytest.raises(InvalidInput) as raised:
            index.upsert(made)
        assert raised.value.where == folder


def test_another_model_is_refused_with_both_names(folder: Path) -> None:
    for other in (FakeModel("other", fingerprint="f" * 16), FakeModel("other", dim=DIM + 1)):
        with pytest.raises(WrongModel, match="fake") as raised:
            VectorIndex.open(folder, encoder=other)
        assert (raised.value.value, raised.value.where) == ("other", folder)
    VectorIndex.open(folder, encoder=FakeModel("renamed", precision="int8")).close()


def test_no_index_names_the_way_to_one(tmp_path: Path, model: FakeModel) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "gone.tuwen", tmp_path, tmp_path / "file"):
        with pytest.raises(IndexNotFound) as raised:
            VectorIndex.open(place, encoder=model)
        assert "tuwen index build" in raised.value.hint


def test_rows_that_cannot_be_read_are_invalid(folder: Path, model: FakeModel) -> None:
    for segment in (folder / "shard" / "segments").iterdir():
        (segment / "segment.json").write_text("{")
    (folder / "shard" / "edge_config.json").write_text("{")
    with pytest.raises(IndexInvalid) as raised:
        VectorIndex.open(folder, encoder=model)
    assert raised.value.where == folder
    with pytest.raises(IndexInvalid):  # and the lock is free again
        VectorIndex.open(folder, encoder=model, lock_timeout=0)


def test_the_same_process_twice_is_refused_at_once(index: VectorIndex, folder: Path, model: FakeModel) -> None:
    with pytest.raises(IndexLocked) as raised:
        VectorIndex.open(folder, encoder=model, lock_timeout=60)
    assert raised.value.value == os.getpid()


def test_a_closed_index_says_so(folder: Path, model: FakeModel) -> None:
    index = VectorIndex.open(folder, encoder=model)
    index.close()
    index.close()
    for call in (lambda: index.search(vectors(1)[0]), lambda: index.upsert(rows(1)), index.info, index.optimize):
        with pytest.raises(IndexFault) as raised:
            call()
        assert raised.value.where == folder


def test_create_makes_an_index_of_a_root(tmp_path: Path, model: FakeModel) -> None:
    folder = tmp_path / "deep" / "er" / "photos.tuwen"
    with VectorIndex.create(folder, encoder=model, root=tmp_path / "PHOTOS") as index:
        assert (index.folder, index.root) == (folder, tmp_path / "PHOTOS")
        info = index.info()
    assert (info.index, info.rows, info.dim, info.metric, info.kind, info.model, info.fingerprint) == (
        *(str(folder), 0, DIM, "cosine", "hnsw", "fake", "0123456789abcdef"),
    )
    assert [path.name for path in folder.parent.iterdir()] == ["photos.tuwen"]
    with pytest.raises(InvalidInput) as raised:
        VectorIndex.create(folder, encoder=model)
    assert raised.value.where == folder


def test_create_touches_nothing_that_is_there(tmp_path: Path, model: FakeModel) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").write_bytes(b"mine")
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("full", "file", "link"):
        with pytest.raises(InvalidInput) as raised:
            VectorIndex.create(tmp_path / name, encoder=model)
        assert raised.value.where == tmp_path / name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "link"]
    assert (tmp_path / "full" / "photo.jpg").read_bytes() == b"mine"


def test_bytes_grow_with_the_rows(index: VectorIndex) -> None:
    before = index.info().bytes
    index.upsert(rows(2_000))
    assert index.info().bytes > before + 2_000 * DIM * 4


def test_what_rows_are_computed_in_is_kept_and_mixing_is_noted(folder: Path) -> None:
    for precision, kept, notes in (
        ("fp32", ("fp32",), 0),
        ("bf16", ("bf16", "fp32"), 0),
        ("int8", ("bf16", "fp32", "int8"), 1),
        ("fp32", ("bf16", "fp32", "int8"), 1),
    ):
        with VectorIndex.open(folder, encoder=FakeModel(precision=precision)) as index:
            index.upsert([])
            index.upsert(rows(3))
            info = index.info()
        assert info.precisions == kept
        assert len(info.notes) == notes
    assert "int8" in info.notes[0]
    assert "bf16, fp32" in info.notes[0]


def test_int8_alone_is_no_mixture(folder: Path) -> None:
    with VectorIndex.open(folder, encoder=FakeModel(precision="int8")) as index:
        index.upsert(rows(1))
        assert index.info().notes == ()


def test_calls_from_many_threads_take_turns(index: VectorIndex) -> None:
    made = rows(400)
    index.upsert(made[:200])
    wrong: list[object] = []

    def search(seed: int) -> None:
        for i in range(seed, 200, 5):
            hit = index.search(made[i].vector, k=1)[0]
            if hit.payload["path"] != made[i].key:
                wrong.append(hit)

    def write() -> None:
        for start in range(200, 400, 20):
            index.upsert(made[start : start + 20])
            index.optimize()

    threads = [threading.Thread(target=search, args=(seed,)) for seed in range(4)] + [threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert index.info().rows == 400


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_what_a_forked_child_keeps_open_is_free_when_it_ends(folder: Path, model: FakeModel) -> None:
    index = VectorIndex.open(folder, encoder=model)
    child = os.fork()
    if not child:
        threading.Event().wait(20)
        os._exit(0)
    try:
        index.close()
        with pytest.raises(IndexLocked) as raised:
            VectorIndex.open(folder, encoder=model, lock_timeout=0.2)
        assert raised.value.value != os.getpid()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    VectorIndex.open(folder, encoder=model, lock_timeout=0).close()


def test_the_lock_is_released_even_if_the_rows_cannot_be_closed(
    folder: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = VectorIndex.open(folder, encoder=model)

    def fail() -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(index._store, "close", fail)
        with pytest.raises(OSError, match="gone"):
            index.close()
    index._store.close()
    VectorIndex.open(folder, encoder=model, lock_timeout=0).close()
