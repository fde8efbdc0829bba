import hashlib
import io
from pathlib import Path

import pytest
from httpx2 import Client
from PIL import Image

from tuwen.index.store import Stored
from tuwen.runtime.encoder import Encoder
from tuwen.server.images import Thumbnails
from tuwen.types import Row

from .serving import Served


@pytest.fixture(scope="module")
def row(served: Served) -> Stored:
    return next(iter(served.index.list()))


def test_the_file_as_it_is(served: Served, row: Stored) -> None:
    answer = served.client.get(f"/v1/images/{row.id}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/webp"
    assert answer.content == (served.root / str(row.payload["path"])).read_bytes()
    assert "sandbox" in answer.headers["content-security-policy"]


def test_facts(served: Served, row: Stored) -> None:
    assert served.client.get(f"/v1/images/{row.id}/facts").json() == {"id": row.id, "payload": dict(row.payload)}


@pytest.mark.parametrize("what", ["", "/thumbnail", "/facts"])
def test_no_such_row(client: Client, what: str) -> None:
    for ident in ("nobody", "00000000-0000-0000-0000-000000000000", "..%2f..%2fetc%2fpasswd"):
        answer = client.get(f"/v1/images/{ident}{what}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"


def test_thumbnails_are_small_and_made_once(served: Served, row: Stored) -> None:
    first = served.client.get(f"/v1/images/{row.id}/thumbnail", params={"size": 64})
    assert first.headers["content-type"] == "image/webp"
    assert max(Image.open(io.BytesIO(first.content)).size) <= 128
    (file,) = served.service.thumbnails.path(str(row.payload["content"]), 64).parent.iterdir()
    made = file.stat().st_mtime_ns
    again = served.client.get(f"/v1/images/{row.id}/thumbnail", params={"size": 100})
    assert again.content == first.content
    assert file.stat().st_mtime_ns == made
    seen = {"if-none-match": first.headers["etag"]}
    assert served.client.get(f"/v1/images/{row.id}/thumbnail?size=64", headers=seen).status_code == 304
    assert "max-age=31536000" in first.headers["cache-control"]


def test_a_thumbnail_is_upright_and_of_the_whole_picture(served: Served) -> None:
    image = Image.new("RGB", (2000, 1000), "red")
    image.paste("blue", (0, 0, 100, 1000))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    data = io.BytesIO()
    image.save(data, format="JPEG", exif=exif)
    (added,) = served.client.post("/v1/images", files=[("files", ("a.jpg", data.getvalue()))]).json()["images"]
    answer = served.client.get(f"/v1/images/{added['id']}/thumbnail?size=320")
    small = Image.open(io.BytesIO(answer.content)).convert("RGB")
    assert small.size == (160, 320)
    assert small.getpixel((80, 5))[2] > 200
    assert small.getpixel((80, 40))[0] > 200
    assert served.client.delete(f"/v1/images/{added['id']}").json() == {"removed": 1}


def test_browsing(served: Served) -> None:
    rows = list(served.index.list())
    answer = served.client.get("/v1/images", params={"offset": 90, "k": 5}).json()
    assert answer["total"] == len(rows)
    assert [row["id"] for row in answer["rows"]] == [row.id for row in rows[90:95]]
    kept = served.client.get("/v1/images", params={"where": 'folder == "flags"', "k": 1000}).json()
    assert {row["payload"]["folder"] for row in kept["rows"]} == {"flags"}
    assert kept["total"] == len(kept["rows"])


@pytest.mark.parametrize(
    "query", ["k=0", "k=5000", "offset=-1", "k=x", "where=colour%3D%3D1", "offset=99999999999999999999"]
)
def test_what_cannot_be_browsed(client: Client, query: str) -> None:
    assert client.get(f"/v1/images?{query}").status_code == 422


def test_browsing_follows_what_is_written(served: Served) -> None:
    """Before and after, with a filter and without, the pages are those of the index."""

    def pages(where: str | None) -> list[str]:
        asked = {"k": 1000} | ({"where": where} if where else {})
        answer = served.client.get("/v1/images", params=asked).json()
        assert answer["total"] == len(answer["rows"])
        return [row["id"] for row in answer["rows"]]

    def check() -> None:
        for where in (None, 'folder == "uploads"'):
            assert pages(where) == [row.id for row in served.index.list(where)]

    check()
    data = io.BytesIO()
    Image.new("RGB", (20, 20), "olive").save(data, format="PNG")
    (added,) = served.client.post("/v1/images", files=[("files", ("a.png", data.getvalue()))]).json()["images"]
    check()
    assert {"name": "uploads", "rows": 1} in served.client.get("/v1/index").json()["folders"]
    (served.root / added["path"]).unlink()
    again = served.client.post("/v1/images", files=[("files", ("a.png", data.getvalue()))]).json()
    assert again["indexed"] == 1, "its file had gone: the row is written again"
    check()
    assert served.client.delete(f"/v1/images/{added['id']}").json() == {"removed": 1}
    check()


def test_a_text_is_a_row_without_a_picture(served: Served, encoder: Encoder) -> None:
    text = "a red apple"
    facts = {"type": "text", "text": text, "folder": "notes.txt", "name": "1", "modified": 1.5}
    content = hashlib.sha256(text.encode()).hexdigest()
    vector = encoder.encode_texts([text])[0]
    served.index.upsert([Row("notes.txt/1", vector, {"path": "notes.txt/1", "content": content, **facts})])
    served.service.listing.added("notes.txt/1")
    try:
        (hit,) = served.client.post("/v1/search", json={"text": text, "k": 1}).json()["hits"]
        assert hit["payload"]["text"] == text
        for what in ("", "/thumbnail"):
            answer = served.client.get(f"/v1/images/{hit['id']}{what}")
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "not_found"
        assert served.client.get(f"/v1/images/{hit['id']}/facts").json()["payload"]["text"] == text
        kept = served.client.get("/v1/images", params={"where": 'type == "text"'}).json()
        assert [row["id"] for row in kept["rows"]] == [hit["id"]]
        assert served.client.get("/v1/index").json()["types"]["text"] == 1
        similar = served.client.post("/v1/search", json={"like": [hit["id"]], "k": 1}).json()["hits"]
        assert similar[0]["payload"]["type"] == "image"
    finally:
        assert served.client.delete(f"/v1/images/{hit['id']}").json() == {"removed": 1}


def test_a_picture_whose_file_has_gone(served: Served) -> None:
    row = list(served.index.list())[-1]
    file = served.root / str(row.payload["path"])
    aside = Path(f"{file}.aside")
    file.rename(aside)
    try:
        assert served.client.get(f"/v1/images/{row.id}").status_code == 404
        assert served.client.get(f"/v1/images/{row.id}/thumbnail?size=2000").status_code == 404
        assert served.client.get(f"/v1/images/{row.id}/facts").status_code == 200
    finally:
        aside.rename(file)


def test_a_thumbnail_that_cannot_be_written_leaves_nothing(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(iter(served.index.list()))
    thumbnails = Thumbnails(tmp_path, 10**8)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        thumbnails.made(served.root / str(row.payload["path"]), str(row.payload["content"]), 64)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
