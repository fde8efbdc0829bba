import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuwen.bulk.embedding import Embedded, Item
from tuwen.bulk.packing import LAYOUTS, Layout, pack
from tuwen.data.samples import Sample

MODEL = {"model": "m", "fingerprint": "f", "precision": "fp32"}
PICTURE = {"content": "c", "width": 4, "height": 3, "format": "JPEG", "bytes": 9, "modified": 0.0}


def unit(rows: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, 8))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def sample(key: str, *captions: str, **extra: object) -> Sample:
    return Sample(key, f"{key}.jpg", f"/p/{key}.jpg", None, captions, extra, 0.0)


@pytest.fixture
def embedded() -> Embedded:
    """`a` with two captions, `b` with one, whose columns are of other kinds."""
    items = [
        Item(sample("a", "one", "two", n=1, mixed="x", url="u"), PICTURE, 0, 0),
        Item(sample("b/c", "three", n=2, mixed=3, caption="theirs"), PICTURE, 1, 2),
    ]
    return Embedded(3, items, [], 0, 0, unit(2, 1), unit(3, 2))


def layout(name: str, dtype: str = "float32", **change: object) -> Layout:
    return Layout(name, dtype, **{"shards": 12, "images": True, "texts": True, "model": MODEL, **change})


def npy(content: bytes) -> np.ndarray:
    return np.load(io.BytesIO(content))


def test_clip_retrieval(embedded) -> None:
    files = pack(embedded, layout("clip-retrieval", "float16"))
    assert list(files) == ["metadata/metadata_03.parquet", "img_emb/img_emb_03.npy", "text_emb/text_emb_03.npy"]
    images, texts = npy(files["img_emb/img_emb_03.npy"]), npy(files["text_emb/text_emb_03.npy"])
    assert images.dtype == texts.dtype == np.float16
    np.testing.assert_array_equal(images, embedded.images[[0, 0, 1]].astype(np.float16))
    np.testing.assert_array_equal(texts, embedded.texts.astype(np.float16))
    table = pq.read_table(io.BytesIO(files["metadata/metadata_03.parquet"])).to_pydict()
    assert table["image_path"] == ["/p/a.jpg", "/p/a.jpg", "/p/b/c.jpg"]
    assert table["caption"] == ["one", "two", "three"]
    assert (table["n"], table["mixed"], table["url"]) == ([1, 1, 2], ["x", "x", "3"], ["u", "u", None])


@pytest.mark.parametrize("name", ["parquet", "arrow"])
def test_tables(embedded, name: str) -> None:
    embedded.items[1] = Item(sample("b/c"), PICTURE, 1, None)
    embedded.texts = embedded.texts[:2]
    (path, content), *_ = pack(embedded, layout(name)).items()
    assert path == f"vectors_03.{name}"
    table = pq.read_table(io.BytesIO(content)) if name == "parquet" else pa.ipc.open_file(content).read_all()
    rows = table.to_pylist()
    assert [row["key"] for row in rows] == ["a", "a", "b/c"]
    np.testing.assert_array_equal(np.float32([row["image_vector"] for row in rows]), embedded.images[[0, 0, 1]])
    np.testing.assert_array_equal(np.float32(rows[1]["text_vector"]), embedded.texts[1])
    assert rows[2]["text_vector"] is None
    assert table.schema.metadata[b"tuwen.fingerprint"] == b"f"


def test_a_file_an_item(embedded) -> None:
    wrong = ("../up", f"{'狗' * 90}/c", "d" * 240)
    embedded.items += [Item(sample(key, "t"), None, None, 2) for key in (*wrong, "caf\udce9")]
    files = pack(embedded, layout("npy"))
    assert sorted(files) == [
        "text_embed/a_0_0.npy",
        "text_embed/a_1_0.npy",
        "text_embed/b/c_0_0.npy",
        "text_embed/caf\udce9_0_0.npy",
        "vision_embed/a_0.npy",
        "vision_embed/b/c_0.npy",
    ]
    np.testing.assert_array_equal(npy(files["text_embed/a_1_0.npy"]), embedded.texts[1:2])
    assert [item.path for item in embedded.rejected] == list(wrong)
    assert len(embedded.items) == 3


def test_one_side_alone_is_a_row_a_sample(embedded) -> None:
    files = pack(embedded, layout("clip-retrieval", texts=False))
    assert npy(files["img_emb/img_emb_03.npy"]).shape == (2, 8)
    table = pq.read_table(io.BytesIO(files["metadata/metadata_03.parquet"])).to_pydict()
    assert table["caption"] == ["one\ntwo", "three"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_shard_is_the_same_bytes_and_none_is_no_file(embedded, name: str) -> None:
    assert pack(embedded, layout(name)) == pack(embedded, layout(name))
    assert pack(Embedded(0, [], [], 0, 0, unit(0, 1), unit(0, 1)), layout(name)) == {}


def test_numbers_that_no_column_holds_become_texts(embedded) -> None:
    embedded.items[0] = Item(sample("a", "x", "y", n=2**70, f=1), PICTURE, 0, 0)
    embedded.items[1] = Item(sample("b", "\udcff", n=1, f=0.5), PICTURE, 1, 2)
    (content,) = pack(embedded, layout("parquet")).values()
    table = pq.read_table(io.BytesIO(content)).to_pydict()
    assert (table["n"], table["f"]) == ([str(2**70)] * 2 + ["1"], [1.0, 1.0, 0.5])
    assert table["caption"][2] == "?"
