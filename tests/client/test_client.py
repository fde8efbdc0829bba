"""The client says what the index and the encoder behind the service say themselves."""

import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tuwen
from server.serving import Served, serving
from tuwen.client.client import PAGE
from tuwen.errors import InvalidInput, KeyRefused, NotFound, RejectedImages
from tuwen.index.calibration import CALIBRATION, Calibration, Threshold
from tuwen.index.store import row_id
from tuwen.search.query import Query, RowId


def new_picture(seed: int, kind: str = "PNG") -> bytes:
    """A file that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    written = BytesIO()
    Image.fromarray(pixels).save(written, format=kind)
    return written.getvalue()


def same(hits: list[tuwen.Hit], others: list[tuwen.Hit]) -> bool:
    scores = np.abs([a.score - b.score for a, b in zip(hits, others, strict=True)])
    return [hit.id for hit in hits] == [hit.id for hit in others] and scores.max() < 1e-4


def test_search_by_text(client, served: Served, encoder) -> None:
    hits = client.search("a red apple", k=5, min_score=0.01, where="width >= 1")
    here = served.index.search(encoder.encode_texts(["a red apple"])[0], k=5, min_score=0.01)
    assert same(hits, here)
    assert hits[0].payload == here[0].payload


def opened(picture: Path) -> Image.Image:
    with Image.open(picture) as image:
        image.load()
        return image


@pytest.mark.parametrize("kind", [Path, bytes, Image.Image])
def test_search_by_image(client, served: Served, encoder, picture: Path, kind: type) -> None:
    given = {Path: Path, bytes: Path.read_bytes, Image.Image: opened}[kind](picture)
    assert same(client.search(given, 4), served.index.search(encoder.encode_images([picture])[0], k=4))


def test_search_by_vector(client, served: Served, encoder) -> None:
    vector = encoder.encode_texts(["a red apple"])[0]
    assert same(client.search(vector, 4), served.index.search(vector, k=4))
    with pytest.raises(InvalidInput):
        client.search(vector[:-1])


def test_search_by_rows(client, served: Served) -> None:
    first, second, *_ = client.list()
    by_hit = client.search(Query(like=[tuwen.Hit(first.id, 1.0)], unlike=[RowId(second.id)]), 3)
    by_id = client.search(Query(like=[RowId(first.id)], unlike=[RowId(second.id)]), 3, exact=True)
    assert same(by_hit, by_id)
    assert first.id not in {hit.id for hit in by_hit}


def test_search_with_weights(client, served: Served, encoder, picture: Path) -> None:
    hits = client.search(Query(like=[("a red apple", 2.0), picture], unlike=["night"]), 4, exact=True)
    vectors = [encoder.encode_texts(["a red apple"])[0] * 2, encoder.encode_images([picture])[0]]
    total = sum(vectors) - encoder.encode_texts(["night"])[0]
    assert same(hits, served.index.search((total / np.linalg.norm(total)).astype(np.float32), k=4))
    assert len(client.search(Query(like=["apple", picture], strategy="best"), 5, diversity=0.3)) == 5


def test_a_measured_threshold(client, served: Served) -> None:
    with pytest.raises(InvalidInput):
        client.search("a red apple", min_score="auto")
    every, info = client.search("a red apple"), served.index.info()
    measured = Threshold(
        threshold=every[2].score,
        false_accept=0,
        false_reject=0,
        matching=9,
        unmatching=9,
        rows=info.rows,
        created="now",
    )
    served.index.calibrate(Calibration(fingerprint=info.fingerprint, text=measured))
    try:
        assert len(client.search("a red apple", min_score="auto")) in (2, 3)  # the third is at the threshold itself
    finally:
        (served.index.folder / CALIBRATION).unlink()


def test_classify(client, served: Served, encoder, picture: Path) -> None:
    labels = ["apple", "car", "moon"]
    there, here = client.classifier(labels, "a _"), encoder.classifier(labels, "a _")
    pictures = [picture, picture.read_bytes(), opened(picture)]
    for one, other in zip(there.predict(pictures, none_below=0.5), here.predict(pictures, none_below=0.5), strict=True):
        assert (one.path, one.none) == (other.path, other.none)
        assert [label.label for label in one.labels] == [label.label for label in other.labels]
        assert [label.cosine for label in one.labels] == pytest.approx([it.cosine for it in other.labels], abs=1e-4)
    row = tuwen.Hit(str(row_id(f"{picture.parent.name}/{picture.name}")), 1.0)
    assert client.classify(row, ["apple", "car"], ["a _", "one _"], multi_label=True).labels[0].probability <= 1
    assert [item.path for item in there.predict(picture.parent)] == [it.path for it in here.predict(picture.parent)]


def test_an_image_that_cannot_be_read(client, picture: Path) -> None:
    with pytest.raises(RejectedImages):
        client.classify(b"no picture", ["apple"])
    with pytest.raises(RejectedImages) as rejected:
        client.classifier(["apple"]).predict([picture, b"no picture", Path("nowhere.jpg")])
    assert [item.path for item in rejected.value.rejected] == ["images[1]", "nowhere.jpg"]
    with pytest.raises(InvalidInput):
        client.search(b"no picture")
    with pytest.raises(RejectedImages):
        client.search(Path("nowhere.jpg"))


def test_vectors_are_the_encoders(client, encoder, picture: Path) -> None:
    texts = ["a red apple", "一只狗", "noche"]
    assert np.abs(client.encode_texts(texts) - encoder.encode_texts(texts)).max() < 1e-5
    pictures = [picture, picture.read_bytes(), opened(picture), picture, str(picture)]
    found = client.encode_images(pictures)
    assert np.abs(found - encoder.encode_images(pictures)).max() < 1e-5
    assert found.dtype == np.float32
    assert client.encode_texts([]).shape == client.encode_images([]).shape == (0, encoder.dim)
    with pytest.raises(InvalidInput):
        client.encode_texts("apple")
    with pytest.raises(InvalidInput):
        client.encode_images(picture)


def test_facts(client, served: Served, encoder) -> None:
    facts, info = client.info(), served.index.info()
    assert (facts.rows, facts.model, facts.bytes, facts.write) == (info.rows, info.model, info.bytes, True)
    assert [(model.id, model.dim) for model in client.models()] == [(encoder.name, encoder.dim)]
    rows = list(client.list())
    assert rows == list(served.index.list())
    assert list(client.list("width < 0")) == []
    assert client.get([rows[3].id, "nobody"]) == {rows[3].id: rows[3]}
    key = str(rows[3].payload["path"])
    assert client.payloads([key, "nobody"]) == {key: rows[3].payload}
    assert list(client.keys()) == list(served.index.keys())
    assert list(client.keys(sort="-bytes")) == list(served.index.keys(sort="-bytes"))
    assert client.facets("folder") == served.index.facets("folder")
    with pytest.raises(NotFound):
        client.picture(RowId("nobody"))


def test_pages_of_rows(client, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuwen.client.client.PAGE", 7)
    assert PAGE > 7
    assert list(client.list()) == list(served.index.list())


def test_add_get_and_remove(client, served: Served, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / 'ödd "name".png').write_bytes(new_picture(1))
    (folder / "broken.jpg").write_bytes(new_picture(2, "JPEG")[:300])
    (folder / "notes.txt").write_text("no picture")
    before = client.info().rows
    report = client.add([folder, new_picture(3), Image.open(BytesIO(new_picture(4)))])
    assert (report.indexed, report.unchanged, report.skipped) == (3, 0, 1)
    assert [Path(item.path).name for item in report.rejected] == ["broken.jpg"]
    assert [Path(name).name for name in report.ids] == ['ödd "name".png', "images[1]", "images[2]"]
    again = client.add([folder / "deep", new_picture(3)])
    assert (again.indexed, again.unchanged) == (0, 2)
    ids = list(report.ids.values())
    assert list(again.ids.values()) == ids[:2]
    assert client.picture(RowId(ids[1])) == new_picture(3)
    assert client.search(new_picture(3), 1)[0].id == ids[1]
    assert client.info().rows == before + 3
    assert client.remove([*map(RowId, ids[1:]), ids[0], RowId(ids[1])]) == 2
    assert client.remove([RowId(ids[0])]) == 1
    assert client.info().rows == before


def test_parcels_are_sent_one_after_the_other(client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuwen.client.uploads.FILES", 2)
    reports = list(client.adding([new_picture(seed) for seed in range(10, 15)]))
    assert [report.indexed for report in reports] == [2, 4, 5]
    assert client.remove([RowId(row) for row in reports[-1].ids.values()]) == 5


def test_a_file_that_is_too_much_is_rejected_and_the_others_go_in(encoder, photos: Path, tmp_path: Path) -> None:
    """Four small ones are too much together, and the large one alone."""
    random = np.random.default_rng(0)
    sizes = {"a.png": 60, "b.png": 60, "large.png": 200, "c.png": 60, "d.png": 60}
    (tmp_path / "new").mkdir()
    for name, side in sizes.items():
        Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)).save(tmp_path / "new" / name)
    (tmp_path / "new" / "notes.txt").write_text("no picture")
    (tmp_path / "service").mkdir()
    with (
        serving(encoder, photos, tmp_path / "service", allow_upload=True, max_upload=40_000) as served,
        tuwen.Client(served.url) as client,
    ):
        added = client.add([tmp_path / "new"])
    assert (added.indexed, added.skipped) == (4, 1)
    assert [Path(item.path).name for item in added.rejected] == ["large.png"]
    assert "40,000" in added.rejected[0].reason


def test_nothing_to_add(client, tmp_path: Path) -> None:
    assert client.add([]).seen == client.add([tmp_path]).seen == 0
    assert client.add(tmp_path).seen == 0
    with pytest.raises(InvalidInput):
        client.add([tmp_path / "nowhere"])


def test_what_the_service_refuses_is_said_in_its_words(client) -> None:
    with pytest.raises(InvalidInput):
        client.search("apple", where="width >")
    with pytest.raises(InvalidInput):
        client.search("half a pair: \ud83d")
    with pytest.raises(InvalidInput):
        client.search(Query())


def test_many_threads(client, served: Served) -> None:
    queries = [f"apple {number}" for number in range(24)]
    alone = [client.search(query, k=3) for query in queries]
    found: dict[str, list[tuwen.Hit]] = {}

    def ask(some: list[str]) -> None:
        for query in some:
            found[query] = client.search(query, k=3)

    threads = [threading.Thread(target=ask, args=(queries[part::6],)) for part in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(found[query], hits) for query, hits in zip(queries, alone, strict=True))


def test_keys(encoder, photos: Path, tmp_path: Path) -> None:
    keys = {"keys": ("writing-key",), "read_keys": ("reading-key",), "allow_upload": True}
    with serving(encoder, photos, tmp_path, **keys) as served:
        with tuwen.Client(served.url) as nobody, pytest.raises(KeyRefused):
            nobody.search("apple")
        with tuwen.Client(served.url, "wrong-key") as wrong, pytest.raises(KeyRefused):
            wrong.info()
        with tuwen.Client(served.url, "reading-key") as reader:
            assert reader.search("apple", k=1)
            with pytest.raises(KeyRefused):
                reader.add([new_picture(1)])
        with tuwen.Client(served.url, key="writing-key") as writer:
            assert writer.add([new_picture(1)]).indexed == 1
