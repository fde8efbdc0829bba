"""`tuwen.embed`: what it writes, and what it refuses."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import tuwen
from tuwen.demo import demo_bundle, demo_gallery

embed = partial(tuwen.embed, runtime="onnxruntime", precision="fp32", progress=False)
DEMO = partial(tuwen.load, runtime="onnxruntime", precision="fp32")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A few photos, the first with a caption, and one that is broken."""
    folder = tmp_path / "photos"
    shutil.copytree(demo_gallery() / "flags", folder)
    first = sorted(folder.iterdir())[0]
    first.with_suffix(".txt").write_text("the first flag")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    return folder


def test_vectors_of_images_and_captions_as_files(photos: Path, tmp_path: Path) -> None:
    report = embed(photos, tmp_path / "out", model="demo", layout="parquet", shard_size=5)
    count = len(list(photos.glob("*.webp")))
    assert (report.images, report.texts, report.samples) == (count, 1, count + 1)
    assert [item.path for item in report.rejected] == ["broken.jpg"]
    files = sorted((tmp_path / "out").glob("*.parquet"), key=lambda path: int(path.stem.rpartition("_")[2]))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert len(files) == report.shards == -(-(count + 1) // 5)
    encoder = DEMO("demo")
    keys = sorted(path.name for path in photos.glob("*.webp"))
    expected = encoder.encode_images([photos / key for key in keys])
    np.testing.assert_allclose(np.float32([row["image_vector"] for row in rows]), expected, atol=1e-5)
    captions = np.float32([row["text_vector"] for row in rows if row["text_vector"] is not None])
    np.testing.assert_allclose(captions, encoder.encode_texts(["the first flag"]), atol=1e-5)
    assert embed(str(photos), str(tmp_path / "out"), model="demo", layout="parquet", shard_size=5) == report


def test_an_index_gets_the_rows_that_build_writes_and_keeps_its_model(
    photos: Path, tmp_path: Path, monkeypatch
) -> None:
    embed([photos], tmp_path / "embedded.tuwen", model="demo", layout="index", only="images")
    encoder = DEMO("demo")
    with (
        tuwen.Index.build(photos, tmp_path / "built.tuwen", encoder, progress=False) as built,
        tuwen.Index.open(tmp_path / "embedded.tuwen", encoder=encoder) as index,
    ):
        assert index.keys() == built.keys()
        query = np.ones(encoder.dim)
        ours, theirs = ({hit.id: hit.score for hit in each.search(query, 100, exact=True)} for each in (index, built))
        assert ours == pytest.approx(theirs, abs=1e-4)
    monkeypatch.setenv("TUWEN_DEFAULT_MODEL", "photo")
    report = embed([photos], tmp_path / "embedded.tuwen", layout="index", only="images")
    assert report.model == "pictograms"
    with pytest.raises(tuwen.WrongModel):
        embed([photos], tmp_path / "embedded.tuwen", "photo", layout="index", only="images")


def test_the_model_of_an_index_is_found_by_the_name_that_it_was_pulled_by(
    photos: Path, tmp_path: Path, monkeypatch
) -> None:
    pulled = tmp_path / "models" / "someone" / "model"
    shutil.copytree(demo_bundle(), pulled)
    manifest = json.loads((pulled / "tuwen.json").read_bytes())
    (pulled / "tuwen.json").write_text(json.dumps(manifest | {"name": "nowhere"}))
    monkeypatch.setenv("TUWEN_MODELS", str(tmp_path / "models"))
    for model in ("someone/model", None):
        report = embed(photos, tmp_path / "mine.tuwen", model, layout="index", only="images")
        assert report.model == "nowhere"


@pytest.mark.parametrize(
    ("where", "options"),
    [
        ("layout", {"layout": "csv"}),
        ("only", {"only": "pictures"}),
        ("dtype", {"dtype": "float64"}),
        ("shard_size", {"shard_size": 0}),
        ("workers", {"workers": 2}),
        ("workers", {"workers": 0, "cluster": "local"}),
        ("layout", {"out": "qdrant://host/photos"}),
        ("dtype", {"dtype": "float32"}),
    ],
)
def test_what_cannot_be_done_is_refused(photos: Path, tmp_path: Path, where: str, options: dict[str, object]) -> None:
    embed(photos, tmp_path / "out", model="demo", shard_size=50)
    wanted: dict[str, object] = {"out": tmp_path / "out", "shard_size": 50, **options}
    with pytest.raises(tuwen.InvalidInput) as raised:
        embed(photos, model="demo", **wanted)
    assert raised.value.where == where


def test_a_source_without_samples_is_refused(photos: Path, tmp_path: Path) -> None:
    image = next(photos.glob("*.webp"))
    for source in (image, tmp_path / "none"):
        with pytest.raises(tuwen.InvalidInput) as raised:
            embed(source, tmp_path / "out", model="demo")
        assert raised.value.value == source
