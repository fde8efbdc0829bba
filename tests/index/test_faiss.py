"""What is FAISS's own: a file that is mapped, built when it is worth it, and never the only copy."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from making import FakeModel, paths, row, rows

from tuwen.cli.main import tuwen
from tuwen.errors import IndexInvalid, MissingExtra
from tuwen.index.index import VectorIndex
from tuwen.index.stores.faiss_file import lists_for, probes_for

MADE = rows(1_300)


@pytest.fixture(params=["hnsw", "flat", "ivf"])
def built(request: pytest.FixtureRequest, place: Path) -> Iterator[VectorIndex]:
    with VectorIndex.create(place / "f.tuwen", encoder=FakeModel(), kind=request.param, store="faiss") as index:
        index.upsert(MADE)
        index.optimize()
        yield index


def files(index: VectorIndex) -> list[Path]:
    return sorted((index.folder / "faiss").glob("*.faiss"))


def test_the_file_is_one_that_faiss_reads_by_itself(built: VectorIndex) -> None:
    import faiss

    (file,) = files(built)
    read = faiss.read_index(str(file))
    kind = type(faiss.downcast_index(read.index)).__name__
    assert kind == {"hnsw": "IndexHNSWFlat", "flat": "IndexFlatIP", "ivf": "IndexIVFFlat"}[built.info().kind]
    assert (type(read).__name__, read.ntotal) == ("IndexIDMap2", len(MADE))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell what is mapped")
def test_the_file_is_mapped(built: VectorIndex) -> None:
    (file,) = files(built)
    assert file.name in Path("/proc/self/maps").read_text()
    built.close()


def test_few_changes_build_nothing_many_do_and_what_is_removed_is_compacted(built: VectorIndex) -> None:
    import faiss

    before = files(built)
    built.upsert([row("new", MADE[0].vector)])
    built.remove([it.key for it in MADE[:500]])
    built.optimize()
    assert files(built) == before
    assert paths(built.search(MADE[0].vector, k=1)) == ["new"]
    built.remove([it.key for it in MADE[500:1_200]])
    built.optimize()
    (file,) = files(built)
    assert [file] != before
    assert faiss.read_index(str(file)).ntotal == built.info().rows == 101


def test_a_graph_is_added_to_and_not_built_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with VectorIndex.create(place / "f.tuwen", encoder=FakeModel(), store="faiss") as index:
        index.upsert(MADE)
        index.optimize()
        more = rows(1_100, seed=5, prefix="more/")
        index.remove([MADE[0].key])
        index.upsert(more)
        monkeypatch.setattr("tuwen.index.stores.faiss.build", None)
        index.optimize()
        for it in (*MADE[1::200], *more[::200]):
            assert paths(index.search(it.vector, k=1)) == [it.key]
        assert MADE[0].key not in paths(index.search(MADE[0].vector, k=2_000))


def test_a_graph_is_not_written_again_for_what_is_gone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuwen.index.stores.faiss.DUE", 50)
    with VectorIndex.create(place / "f.tuwen", encoder=FakeModel(), store="faiss") as index:
        index.upsert(MADE)
        index.optimize()
        before = files(index)
        index.remove([it.key for it in MADE[:100]])
        index.optimize()
        assert files(index) == before
        index.remove([it.key for it in MADE[100:200]])
        index.optimize()
        assert files(index) != before
        assert paths(index.search(MADE[200].vector, k=1)) == [MADE[200].key]


def test_ivf_of_too_few_rows_is_flat_and_says_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with VectorIndex.create(place / "f.tuwen", encoder=FakeModel(), kind="ivf") as index:
        index.upsert(MADE[:100])
        index.optimize()
        info = index.info()
        assert (info.kind, info.searched, info.store) == ("ivf", "flat", "faiss")
        (note,) = info.notes
    tuwen.main(["index", "info", "--index", str(place / "f.tuwen"), "--json"], standalone_mode=False)
    said = capsys.readouterr()
    assert said.err.splitlines() == [f"tuwen: {note}"]
    assert json.loads(said.out)["notes"] == [note]
    with VectorIndex.open(place / "f.tuwen", encoder=FakeModel()) as index:
        index.upsert(MADE)
        index.optimize()
        assert (index.info().searched, index.info().notes) == ("ivf", ())


def test_how_many_lists() -> None:
    assert [lists_for(rows) for rows in (0, 311, 312, 10_000, 1_000_000)] == [0, 0, 8, 256, 4_000]
    assert [probes_for(lists) for lists in (8, 256, 4_000)] == [8, 32, 500]


def test_a_file_that_is_missing_is_built_again(built: VectorIndex) -> None:
    folder, kind = built.folder, built.info().kind
    (file,) = files(built)
    built.close()
    file.unlink()
    with VectorIndex.open(folder, encoder=FakeModel()) as index:
        assert index.info().searched == "flat"
        assert paths(index.search(MADE[7].vector, k=1)) == [MADE[7].key]
        index.optimize()
        assert index.info().searched == kind


def test_what_cannot_be_read_says_what_to_do(built: VectorIndex) -> None:
    folder = built.folder
    (file,) = files(built)
    built.close()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(IndexInvalid) as raised:
        VectorIndex.open(folder, encoder=FakeModel())
    assert raised.value.where == file
    (folder / "faiss" / "rows.db").write_bytes(b"nonsense" * 1_000)
    with pytest.raises(IndexInvalid) as raised:
        VectorIndex.open(folder, encoder=FakeModel(), lock_timeout=0)
    assert raised.value.where == folder


def test_a_missing_package_is_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *words: object) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("tuwen.errors.import_module", missing)
    with pytest.raises(MissingExtra) as raised:
        VectorIndex.create(place / "f.tuwen", encoder=FakeModel(), kind="ivf")
    assert (raised.value.value, raised.value.extra) == ("faiss", "faiss")
    assert list(place.iterdir()) == []
