from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuwen.errors import InvalidInput, InvalidVectors, WrongModel
from tuwen.index.index import VectorIndex
from tuwen.ingest.payloads import text_payload
from tuwen.interop.exchange import LAYOUTS, check_vectors, export_vectors, import_vectors
from tuwen.interop.vector_files import VectorFiles
from tuwen.types import Row


def unit(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def opened(tmp_path: Path, encoder):
    """Makes empty indexes and opens them."""
    made: list[VectorIndex] = []

    def make(name: str) -> VectorIndex:
        made.append(VectorIndex.create(tmp_path / name, encoder=encoder, root=tmp_path))
        return made[-1]

    yield make
    for index in made:
        index.close()


@pytest.fixture
def filled(opened, encoder) -> VectorIndex:
    """Pictures with facts of every kind, and a text."""
    index = opened("filled.tuwen")
    vectors = unit(2103, encoder.dim)
    rows = [
        Row(f"d/{i}.jpg", vector, {"width": i, "modified": i / 3, "url": f"红{i}", **({"odd": i} if i % 2 else {})})
        for i, vector in enumerate(vectors[:-1])
    ]
    index.upsert([*rows, Row("t#0", vectors[-1], text_payload("t#0", "a red photo", 7.5))])
    return index


def rows(index: VectorIndex) -> dict[str, tuple[dict[str, object], bytes]]:
    """Key -> payload and vector, of everything."""
    stored = list(index.list())
    vectors = index.vectors([row.id for row in stored])
    return {str(row.payload["path"]): (dict(row.payload), vectors[row.id].tobytes()) for row in stored}


def run_import(
    files: VectorFiles, encoder, index: VectorIndex, *, normalise: bool = False, key_column: str | None = None
):
    check_vectors(files, encoder, normalise=normalise)
    return list(import_vectors(files, index, key_column=key_column))[-1]


def export(index: VectorIndex, out: Path, layout: str, where: str | None = None, dtype: str = "float32") -> Path:
    list(export_vectors(index, out, layout, where=where, dtype=dtype))
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".") and "part" in path.name] == []
    return out


def test_parquet_there_and_back_is_exact(filled, opened, encoder, tmp_path: Path) -> None:
    file = export(filled, tmp_path / "all.parquet", "parquet")
    done = run_import(VectorFiles(file), encoder, again := opened("again.tuwen"))
    assert (done.rows, done.rejected) == (2103, ())
    expected = {
        key: ({"folder": "d", "name": key[2:], **payload} if key[0] == "d" else payload, vector)
        for key, (payload, vector) in rows(filled).items()
    }
    assert rows(again) == expected
    assert rows(again)["t#0"][0]["text"] == "a red photo"


@dataclass(frozen=True)
class Large:
    """What an index asks of a model with vectors of a usual length."""

    name: str = "large"
    dim: int = 512
    fingerprint: str = "0123456789abcdef"
    precision: str = "fp32"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_clip_retrieval_there_and_back_is_exact(tmp_path: Path, dtype: str) -> None:
    vectors = unit(300, 512, seed=4).astype(dtype).astype(np.float32)
    with VectorIndex.create(tmp_path / "first", encoder=Large(), root=tmp_path) as first:
        first.upsert([Row(f"{i:03}.jpg", vector, {"width": i}) for i, vector in enumerate(vectors)])
        folder = export(first, tmp_path / "a", "clip-retrieval", dtype=dtype)
        names = [str(row.payload["path"]) for row in first.list()]
    with VectorIndex.create(tmp_path / "second", encoder=Large(), root=tmp_path) as second:
        assert run_import(VectorFiles(folder), Large(), second).rows == 300
        again = export(second, tmp_path / "b", "clip-retrieval", dtype=dtype)
        assert [str(row.payload["path"]) for row in second.list()] == names
    once, twice = ((place / "img_emb" / "img_emb_0.npy").read_bytes() for place in (folder, again))
    assert once == twice
    assert np.load(again / "img_emb" / "img_emb_0.npy").dtype == dtype


def test_a_folder_of_parquet_files(filled, opened, encoder, tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    folder.mkdir()
    export(filled, folder / "vectors_9.parquet", "parquet", where="width < 30")
    export(filled, folder / "vectors_10.parquet", "parquet", where="width >= 2000")
    assert run_import(VectorFiles(folder), encoder, again := opened("again.tuwen")).rows == 30 + 102
    assert rows(again)["d/7.jpg"][1] == rows(filled)["d/7.jpg"][1]


def test_names_of_any_letters_but_line_breaks(opened, encoder, tmp_path: Path) -> None:
    index, file = opened("i.tuwen"), tmp_path / "v.npy"
    keys = ["a\u2028b.jpg", "c\x0bd.jpg", "e\x85.jpg", "%41.jpg"]
    index.upsert([Row(key, vector, {}) for key, vector in zip(keys, unit(4, encoder.dim), strict=True)])
    export(index, file, "npy")
    run_import(VectorFiles(file, tmp_path / "v.txt"), encoder, again := opened("again.tuwen"))
    assert {key: vector for key, (_, vector) in rows(again).items()} == {
        key: vector for key, (_, vector) in rows(index).items()
    }
    index.upsert([Row("two\nlines.jpg", unit(1, encoder.dim)[0], {})])
    with pytest.raises(InvalidInput) as caught:
        export(index, tmp_path / "w.npy", "npy")
    assert caught.value.value == "two\nlines.jpg"
    assert [it.name for it in tmp_path.iterdir() if it.name.lstrip(".").startswith("w")] == []


def test_vectors_of_texts(opened, encoder, tmp_path: Path) -> None:
    vectors, says = unit(3, encoder.dim), ["a cap", "a hat", "帽子"]
    np.save(tmp_path / "v.npy", vectors)
    (tmp_path / "v.txt").write_text("".join(f"{it}\n" for it in says), encoding="utf-8")
    pq.write_table(pa.table({"vector": list(vectors), "label": says}), tmp_path / "v.parquet")
    files = (
        (VectorFiles(tmp_path / "v.npy", tmp_path / "v.txt", texts=True), None),
        (VectorFiles(tmp_path / "v.parquet", texts=True), "label"),
    )
    for number, (source, column) in enumerate(files):
        index = opened(f"{number}.tuwen")
        assert run_import(source, encoder, index, key_column=column).rejected == ()
        found = index.search(vectors[1], k=1)[0].payload
        assert (found["type"], found["text"], index.info().rows) == ("text", "a hat", 3)
    (tmp_path / "folder" / "img_emb").mkdir(parents=True)
    with pytest.raises(InvalidInput) as caught:
        run_import(VectorFiles(tmp_path / "folder", texts=True), encoder, index)
    assert caught.value.value == tmp_path / "folder"


def test_npy_with_names(filled, opened, encoder, tmp_path: Path) -> None:
    file = export(filled, tmp_path / "v.npy", "npy")
    names = tmp_path / "v.txt"
    assert np.load(file).shape == (2103, encoder.dim)
    run_import(VectorFiles(file, names), encoder, again := opened("again.tuwen"))
    assert {key: vector for key, (_, vector) in rows(again).items()} == {
        key: vector for key, (_, vector) in rows(filled).items()
    }
    names.write_text("one\n", encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        run_import(VectorFiles(file, names), encoder, again)
    assert caught.value.where == file
    with pytest.raises(InvalidInput) as caught:
        run_import(VectorFiles(file), encoder, again)
    assert caught.value.where == file


def test_pairs_of_clip_retrieval_become_pictures_and_texts(opened, encoder, tmp_path: Path) -> None:
    for name in ("img_emb", "text_emb", "metadata"):
        (tmp_path / name).mkdir()
    images, texts = unit(2, encoder.dim, 1)[[0, 0, 1]], unit(3, encoder.dim, 2)
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", images.astype(np.float16))
    np.save(tmp_path / "text_emb" / "text_emb_0.npy", texts.astype(np.float16))
    table = {"image_path": [str(tmp_path / "a.jpg")] * 2 + ["/else/b.jpg"], "caption": ["one", "two", "three"]}
    pq.write_table(pa.table(table), tmp_path / "metadata" / "metadata_0.parquet")
    done = run_import(VectorFiles(tmp_path), encoder, index := opened("i.tuwen"))
    assert done.rejected == ()
    stored = rows(index)
    kinds = [str(payload["type"]) for payload, _ in stored.values()]
    assert (kinds.count("image"), kinds.count("text")) == (2, 3)
    assert {"a.jpg", "/else/b.jpg"} <= stored.keys()
    assert {payload["text"] for payload, _ in stored.values() if "text" in payload} == {"one", "two", "three"}


def test_what_does_not_fit_is_refused(opened, encoder, tmp_path: Path) -> None:
    index, file, names = opened("i.tuwen"), tmp_path / "v.npy", tmp_path / "v.txt"
    names.write_text("a\nb\nc\n", encoding="utf-8")
    vectors = unit(3, encoder.dim)
    np.save(file, vectors * [[1], [3], [1]])
    with pytest.raises(InvalidVectors) as caught:
        run_import(VectorFiles(file, names), encoder, index)
    assert caught.value.where == f"{file}:1"
    assert rows(index) == {}
    assert run_import(VectorFiles(file, names), encoder, index, normalise=True).rows == 3
    np.testing.assert_allclose(np.frombuffer(rows(index)["b"][1], np.float32), vectors[1], atol=1e-6)
    np.save(file, np.ones((3, 5), np.float32))
    with pytest.raises(InvalidVectors) as caught:
        run_import(VectorFiles(file, names), encoder, index)
    assert caught.value.value == 5
    vectors[0], vectors[1] = 0, np.nan
    np.save(file, vectors)
    names.write_text("x\ny\nz\n", encoding="utf-8")
    done = run_import(VectorFiles(file, names), encoder, index)
    assert (done.rows, [item.path for item in done.rejected]) == (1, [f"{file}:0", f"{file}:1"])


def test_rows_are_named_by_their_numbers_where_others_have_no_vector(opened, encoder, tmp_path: Path) -> None:
    file, (vector,) = tmp_path / "v.parquet", unit(1, encoder.dim).tolist()
    pq.write_table(pa.table({"path": list("abcd"), "vector": [None, vector, None, [0.0] * encoder.dim]}), file)
    done = run_import(VectorFiles(file), encoder, opened("i.tuwen"))
    assert (done.rows, [item.path for item in done.rejected]) == (1, [f"{file}:3"])


def test_another_models_vectors_are_refused(filled, opened, encoder, tmp_path: Path) -> None:
    file = export(filled, tmp_path / "all.parquet", "parquet")
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({"tuwen.fingerprint": "other"}), file)
    with pytest.raises(WrongModel) as caught:
        run_import(VectorFiles(file), encoder, opened("i.tuwen"))
    assert caught.value.value == "other"
    for name, metadata in (("9", {"tuwen.fingerprint": encoder.fingerprint}), ("10", None)):
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / f"{name}.parquet")
    with pytest.raises(WrongModel) as caught:
        run_import(VectorFiles(tmp_path), encoder, opened("j.tuwen"))
    assert caught.value.where == file
    (tmp_path / "clip" / "metadata").mkdir(parents=True)
    file.rename(said := tmp_path / "clip" / "metadata" / "metadata_0.parquet")
    assert run_import(VectorFiles(tmp_path), encoder, opened("k.tuwen")).rejected == ()
    with pytest.raises(WrongModel) as caught:
        run_import(VectorFiles(tmp_path / "clip"), encoder, opened("l.tuwen"))
    assert caught.value.where == said


def test_columns_that_say_what_they_are_of_need_no_option(opened, encoder, tmp_path: Path) -> None:
    file, vectors = tmp_path / "v.parquet", unit(4, encoder.dim)
    columns = {"image_vector": list(vectors[:2]), "text_vector": list(vectors[2:])}
    pq.write_table(pa.table({"key": ["a", "b"], "caption": ["a cap", "a hat"], **columns}), file)
    with pytest.raises(InvalidInput) as caught:
        run_import(VectorFiles(file, texts=True), encoder, opened("0.tuwen"))
    assert caught.value.where == file
    both, alone = opened("1.tuwen"), opened("2.tuwen")
    run_import(VectorFiles(file), encoder, both)
    run_import(VectorFiles(file, column="text_vector", texts=True), encoder, alone)
    texts = {payload["text"]: vector for payload, vector in rows(alone).values()}
    assert texts == {"a cap": vectors[2].tobytes(), "a hat": vectors[3].tobytes()}
    found = [(payload.get("text"), vector) for payload, vector in rows(both).values()]
    assert sorted(found, key=str) == sorted([*texts.items(), *((None, it.tobytes()) for it in vectors[:2])], key=str)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_export_of_nothing_comes_back(filled, opened, encoder, tmp_path: Path, layout: str) -> None:
    file = export(filled, tmp_path / f"none.{layout}", layout, where="width < 0")
    names = tmp_path / "none.txt" if layout == "npy" else None
    done = run_import(VectorFiles(file, names), encoder, opened("again.tuwen"))
    assert (done.rows, done.rejected) == (0, ())


def test_mistakes_are_errors(filled, opened, encoder, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        export(filled, tmp_path / "out", "clip-retrieval")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InvalidInput) as caught:
        export(filled, tmp_path, "parquet")
    assert caught.value.value == tmp_path
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        export(filled, tmp_path / "notes.npy", "npy")
    assert caught.value.value == tmp_path / "notes.txt"
    with pytest.raises(InvalidInput) as caught:
        export(filled, tmp_path / "new.txt", "npy")
    assert caught.value.value == tmp_path / "new.txt"
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"
    empty = opened("i.tuwen")
    with pytest.raises(InvalidInput) as caught:
        run_import(VectorFiles(tmp_path), encoder, empty)
    assert caught.value.where == tmp_path
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InvalidInput) as caught:
        run_import(VectorFiles(tmp_path / "a.parquet"), encoder, empty)
    assert caught.value.where == tmp_path / "a.parquet"
    pq.write_table(pa.table({"vector": [[1.0, 0.0], [1.0]]}), tmp_path / "a.parquet")
    with pytest.raises(InvalidInput) as caught:
        run_import(VectorFiles(tmp_path / "a.parquet"), encoder, empty)
    assert caught.value.where == tmp_path / "a.parquet"
    pq.write_table(pa.table({"vector": [["a", "b"]]}), tmp_path / "a.parquet")
    with pytest.raises(InvalidInput) as caught:
        run_import(VectorFiles(tmp_path / "a.parquet"), encoder, empty)
    assert caught.value.where == tmp_path / "a.parquet"
    np.save(tmp_path / "a.npy", np.array([["a", "b"]]))
    (tmp_path / "a.txt").write_text("one\n", encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        run_import(VectorFiles(tmp_path / "a.npy", tmp_path / "a.txt"), encoder, empty)
    assert caught.value.where == tmp_path / "a.npy"
    vectors = [unit(1, encoder.dim, seed)[0].tolist() for seed in (1, 2, 1)]
    pq.write_table(pa.table({"emb": vectors, "id": ["a", "a", "a"]}), tmp_path / "a.parquet")
    done = run_import(VectorFiles(tmp_path / "a.parquet"), encoder, empty)
    assert [item.path for item in done.rejected] == [f"{tmp_path / 'a.parquet'}:1"]
