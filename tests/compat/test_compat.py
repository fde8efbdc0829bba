"""A bundle and indexes written before, as they were in November 2026: they open, search, verify and can be changed.

`written-by-0.1.0.tar.xz` holds a tiny bundle, six images, 320 lines of text, an index of both in Qdrant Edge with
measured thresholds, one of the lines in FAISS (kind `ivf`, with a row removed), and `expected.json`: the vectors that
the code of that time computed and the hits that it found.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tuwen
from tuwen.bundle.bundle import read_bundle

ARCHIVE = Path(__file__).parent / "written-by-0.1.0.tar.xz"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compat")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "written"


@pytest.fixture(scope="module")
def expected(written: Path) -> dict[str, Any]:
    return json.loads((written / "expected.json").read_bytes())


@pytest.fixture(scope="module")
def encoder(written: Path) -> tuwen.Encoder:
    return tuwen.load(str(written / "bundle"), runtime="onnxruntime", precision="fp32")


def test_the_bundle_computes_the_same_vectors(encoder: tuwen.Encoder, written: Path, expected: dict[str, Any]) -> None:
    assert encoder.fingerprint == expected["fingerprint"]
    images, texts = expected["images"], expected["texts"]
    found = encoder.encode_images([written / "photos" / name for name in images])
    np.testing.assert_allclose(found, list(images.values()), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(list(texts)), list(texts.values()), atol=1e-5)


def test_the_bundle_is_checked_against_its_manifest(written: Path) -> None:
    model = written / "bundle" / "onnx" / "text_model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(tuwen.BundleChanged):
        read_bundle(written / "bundle")
    model.write_bytes(whole)
    assert read_bundle(written / "bundle").manifest.name == "tiny"


@pytest.mark.parametrize("name", ["photos.tuwen", "lines.tuwen"])
def test_an_index_finds_the_same_rows(
    name: str, encoder: tuwen.Encoder, written: Path, expected: dict[str, Any]
) -> None:
    if name == "lines.tuwen":
        pytest.importorskip("faiss")
    then = expected[name]
    with tuwen.Index.open(written / name, str(written / "bundle")) as index:
        assert index.root == written / "photos"
        info = index.info()
        assert {fact: getattr(info, fact) for fact in ("rows", "kind", "searched", "store", "dim")} == {
            fact: then[fact] for fact in ("rows", "kind", "searched", "store", "dim")
        }
        image = np.array(list(expected["images"].values())[1])
        assert as_then(index.search("a cat", k=5, exact=True)) == then["hits"]
        assert as_then(index.search(image, k=3, where='type == "image"')) == then["images"]
        if name == "photos.tuwen":
            assert index.calibration().text.rows == 326
            assert index.search("a cat", min_score="auto") == []  # the best scores 0.84, the threshold is 0.89


def as_then(hits: list[tuwen.Hit]) -> list[list[object]]:
    return [[hit.id, pytest.approx(hit.score, abs=1e-5), hit.payload["path"]] for hit in hits]


def test_facts_are_added_to_indexes_from_before(encoder: tuwen.Encoder, written: Path) -> None:
    pytest.importorskip("faiss")
    where = 'taken >= 2000 or camera contains "Canon" or near(0, 0, 9 km) or iso > 1'
    for name in ("photos.tuwen", "lines.tuwen"):
        with tuwen.Index.open(written / name, encoder=encoder) as index:
            assert (index.count(where), index.values("camera"), index.bounds("taken")) == (0, {}, None)
    with tuwen.Index.open(written / "photos.tuwen", encoder=encoder) as index:
        index.sync(refresh_facts=True, progress=False)
        assert index.count('taken_from == "file" and taken >= 2000') == index.count('type == "image"') > 0


def test_the_indexes_can_be_changed(encoder: tuwen.Encoder, written: Path) -> None:
    pytest.importorskip("faiss")
    with tuwen.Index.open(written / "photos.tuwen", encoder=encoder) as index:
        report = index.sync(progress=False)
        assert (report.indexed, report.replaced, report.removed, report.rejected) == (0, 0, 0, ())
        assert index.remove(["red.png", "lines.txt/7"]) == 2
        assert index.sync(progress=False).indexed == 1
    with tuwen.Index.open(written / "lines.tuwen", encoder=encoder) as index:
        assert index.add(written / "photos" / "lines.txt", progress=False).indexed == 1
        assert index.info().rows == 320


def test_another_model_is_refused(encoder: tuwen.Encoder, written: Path) -> None:
    with pytest.raises(tuwen.WrongModel):
        tuwen.Index.open(written / "photos.tuwen", "demo")
    with tuwen.Index.open(written / "photos.tuwen") as index, pytest.raises(tuwen.BundleNotFound):
        index.search("where the bundle was is not known any more")
