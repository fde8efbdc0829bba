import math
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.ExifTags import Base

import colours
from ingest.test_sync import XMP
from samples_of import jpeg, read_all, write_tar
from tuwen.bulk.embedding import Embedded, Item, Shard, Wanted, embed
from tuwen.bulk.rows import Names, rows_of, storable
from tuwen.data.datasets import list_samples
from tuwen.data.samples import Columns, Listed, Sample
from tuwen.index.index import VectorIndex
from tuwen.ingest.images import ingest

PICTURE = {"content": "c", "width": 4, "height": 3, "format": "JPEG", "bytes": 9, "modified": 5.0}


def test_a_picture_and_its_captions_are_rows() -> None:
    sample = Sample("d/a", "d/a.jpg", "", None, ("one", " ", "three"), {"url": "u", "width": 99, "path": "x"}, 5.0)
    images, texts = np.eye(4, dtype=np.float32)[:1], np.eye(4, dtype=np.float32)[1:]
    picture, one, three = rows_of(
        Embedded(0, [Item(sample, PICTURE, 0, 0)], [], 0, 0, images, texts), Names(Path("/r"), Path("/r"))
    )
    names = {"path": "d/a.jpg", "folder": "d", "name": "a.jpg"}
    assert (picture.key, picture.payload) == (
        "d/a.jpg",
        {**names, **PICTURE, "url": "u", "caption": "one", "type": "image"},
    )
    assert (one.key, one.payload["type"], one.payload["text"]) == ("d/a.jpg#0", "text", "one")
    assert (three.key, three.payload["text"]) == ("d/a.jpg#2", "three")
    np.testing.assert_array_equal(three.vector, texts[2])


@pytest.mark.parametrize(
    ("sources", "key", "name", "place", "picture", "caption"),
    [
        (["/r"], "d/a", "d/a.jpg", "/r/d/a.jpg", "d/a.jpg", "d/a.jpg"),
        (["/r/d"], "a", "a.jpg", "/r/d/a.jpg", "d/a.jpg", "d/a.jpg"),
        (["/far"], "a", "a.jpg", "/far/a.jpg", "/far/a.jpg", "/far/a.jpg"),
        (["/r/d", "/far"], "r/d/a", "r/d/a.jpg", "/r/d/a.jpg", "d/a.jpg", "d/a.jpg"),
        (["/r/x.tar"], "a", "a.jpg", "a", "x.tar/a.jpg", "x.tar/a.jpg"),
        (["/r/s"], "x.tar/a", "x.tar/a.jpg", "a", "s/x.tar/a.jpg", "s/x.tar/a.jpg"),
        (["/r/one.csv"], "a.jpg", "a.jpg", "/r/a.jpg", "a.jpg", "one.csv/a.jpg"),
        (["/r/one.csv"], "7", "a.jpg", "/r/a.jpg", "a.jpg", "one.csv/7"),
        (["/r/one.csv", "/r/two.csv"], "one.csv/7", "one.csv/a.jpg", "/r/a.jpg", "a.jpg", "one.csv/7"),
        (["/labels.txt"], "7", "", "", "/labels.txt/7", "/labels.txt/7"),
    ],
)
def test_no_two_jobs_call_samples_the_same(sources, key, name: str, place: str, picture: str, caption: str) -> None:
    names = Names.of([Path(it) for it in sources], Path("/r"))
    sample = Sample(key, name, place, None, (), {}, 0.0, filed=place.startswith("/"))
    assert (names.picture(sample), names.sample(sample)) == (picture, caption)


def called(source: Path, root: Path) -> list[tuple[str, str]]:
    """What an index calls the pictures and the captions of what a job reads."""
    names = Names.of([source], root)
    samples = read_all(list_samples([source], Columns()))
    return [(names.picture(sample), names.sample(sample)) for sample in samples if isinstance(sample, Sample)]


def test_rows_of_one_picture_with_keys_of_their_own_keep_their_captions(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(jpeg())
    table = {"id": ["1", "2"], "image": ["cat.jpg", str(tmp_path / "cat.jpg")], "caption": ["a", "b"]}
    pq.write_table(pa.table(table), tmp_path / "p.parquet")
    lines = [",".join(row) for row in (table, *zip(*table.values(), strict=True))]
    (tmp_path / "p.csv").write_text("\n".join(lines))
    for name in ("p.csv", "p.parquet"):
        assert called(tmp_path / name, tmp_path) == [("cat.jpg", f"{name}/1"), ("cat.jpg", f"{name}/2")]


def test_pictures_within_tables_are_not_called_by_paths_of_another_machine(tmp_path: Path) -> None:
    held = [{"bytes": jpeg(level), "path": "/data/cat.jpg"} for level in (1, 2)]
    for name in ("a.parquet", "b.parquet"):
        pq.write_table(pa.table({"image": held, "text": ["one", "two"]}), tmp_path / name)
    expected = [f"{name}/{row}" for name in ("a.parquet", "b.parquet") for row in (0, 1)]
    assert called(tmp_path, tmp_path) == [(key, key) for key in expected]


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "cat.jpg").write_bytes(jpeg())
    (folder / "cat.txt").write_text("a cat")
    write_tar(folder / "x.tar", {os.fsdecode(b"m\xe9.jpg"): jpeg(), "n.jpg": jpeg()})
    inside = [(f"caf%E9/x.tar/{name}",) * 2 for name in ("m%E9.jpg", "n.jpg")]
    assert called(folder / "x.tar", tmp_path) == inside
    assert called(folder, tmp_path) == [("caf%E9/cat.jpg", "caf%E9/cat.jpg"), *inside]
    assert called(folder / "x.tar", tmp_path / "far")[0][0].startswith(f"{tmp_path}/caf%E9/x.tar/")


def test_what_an_index_can_store() -> None:
    facts = {
        "a": None,
        "_b": 1,
        "c": True,
        "d": math.nan,
        "e": 2**70,
        "width": "wide",
        "modified": 3,
        "f": "\udcff",
    }
    assert storable(facts) == {"c": 1, "e": str(2**70), "modified": 3, "f": "?"}


def test_what_a_table_says_counts_more_than_the_images_metadata() -> None:
    facts = {"taken": 1.0, "taken_from": "exif", "taken_zone": "local", "camera": "C", "title": "T", "iso": 100}
    extra = {"taken": 9.0, "title": "its own", "iso": "high"}
    sample = Sample("a", "a.jpg", "", None, (), extra, 5.0)
    images, texts = np.eye(4, dtype=np.float32)[:1], np.eye(4, dtype=np.float32)[:0]
    embedded = Embedded(0, [Item(sample, {**PICTURE, **facts}, 0, None)], [], 0, 0, images, texts)
    (row,) = rows_of(embedded, Names(Path("/r"), Path("/r")))
    names = {"path": "a.jpg", "folder": "", "name": "a.jpg", "type": "image"}
    assert row.payload == {**names, **PICTURE, "taken": 9.0, "title": "its own", "camera": "C", "iso": 100}


def test_the_rows_of_files_are_those_that_indexing_writes(encoder, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[Base.Model] = "EOS R5"
    colours.picture("red").save(tmp_path / "a.jpg", exif=exif.tobytes())
    colours.picture("blue").save(tmp_path / "b.jpg")
    (tmp_path / "b.jpg.xmp").write_text(XMP.format(rating=4), encoding="utf-8")
    listed = [item for item in list_samples([tmp_path], Columns()) if isinstance(item, Listed)]
    *_, embedded = embed([Shard(0, listed)], Wanted(images=True, texts=False), encoder)
    assert isinstance(embedded, Embedded)
    with VectorIndex.create(tmp_path / "i.tuwen", encoder=encoder) as index:
        list(ingest([tmp_path], encoder, index))
        stored = {str(row.payload["path"]): row.payload for row in index.list()}
    assert {row.key: row.payload for row in rows_of(embedded, Names(tmp_path, tmp_path))} == stored
    assert (stored["a.jpg"]["camera"], stored["b.jpg"]["rating"]) == ("EOS R5", 4)
