import hashlib
import io
import time
from collections.abc import Sequence
from tempfile import SpooledTemporaryFile

import pytest
from PIL import Image
from starlette import formparsers

from tuwen.errors import IndexFault

from .serving import Served


def drawn(colour: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(data, format="PNG")
    return data.getvalue()


def test_a_picture_is_stored_found_and_removed(served: Served) -> None:
    before = served.index.info().rows
    report = served.client.post("/v1/images", files=[("files", ("../../evil.html", drawn("red")))]).json()
    assert (report["indexed"], report["unchanged"], report["rejected"]) == (1, 0, [])
    (added,) = report["images"]
    file = served.root / added["path"]
    assert added["path"].startswith("uploads/")
    assert file.suffix == ".png"
    assert file.read_bytes() == drawn("red")
    assert served.client.get(f"/v1/images/{added['id']}/facts").json()["payload"]["width"] == 40
    assert served.index.info().rows == before + 1
    assert served.client.delete(f"/v1/images/{added['id']}").json() == {"removed": 1}
    assert list(file.parent.iterdir()) == []
    assert served.index.info().rows == before
    assert served.client.delete(f"/v1/images/{added['id']}").status_code == 404


def test_the_same_bytes_are_one_row(served: Served) -> None:
    twice = [("files", ("a.png", drawn("blue"))), ("files", ("b.png", drawn("blue")))]
    report = served.client.post("/v1/images", files=twice).json()
    assert (report["indexed"], report["unchanged"]) == (1, 1)
    assert report["images"][0] == report["images"][1]
    again = served.client.post("/v1/images", files=twice[:1]).json()
    assert again["images"] == report["images"][:1]
    served.client.delete(f"/v1/images/{again['images'][0]['id']}")


def test_many_pictures_of_one_request_keep_their_order(served: Served) -> None:
    names = ("red", "green", "blue", "white", "black", "brown", "orange", "purple", "pink")
    drawings = [drawn(name) for name in names]
    report = served.client.post("/v1/images", files=[("files", ("a.png", it)) for it in drawings]).json()
    assert report["indexed"] == len(names)
    contents = [hashlib.sha256(it).hexdigest() for it in drawings]
    assert [it["path"] for it in report["images"]] == [f"uploads/{it}.png" for it in contents]
    for added in report["images"]:
        served.client.delete(f"/v1/images/{added['id']}")


def test_what_the_index_does_not_take_leaves_no_file(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuwen.index.space.ROOM", 2**62)
    answer = served.client.post("/v1/images", files=[("files", ("a.png", drawn("brown")))])
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "index_unavailable")
    assert list((served.root / "uploads").iterdir()) == []


def test_what_the_index_does_not_let_go_keeps_its_file(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    report = served.client.post("/v1/images", files=[("files", ("a.png", drawn("brown")))]).json()
    (added,) = report["images"]

    def refuse(_: Sequence[str]) -> int:
        raise IndexFault("the cluster is away")

    with monkeypatch.context() as patched:
        patched.setattr(served.index, "remove", refuse)
        assert served.client.delete(f"/v1/images/{added['id']}").status_code == 503
    assert (served.root / added["path"]).read_bytes() == drawn("brown")
    assert served.client.delete(f"/v1/images/{added['id']}").json() == {"removed": 1}
    assert list((served.root / "uploads").iterdir()) == []


def test_what_is_no_picture_is_rejected_beside_those_that_are(served: Served) -> None:
    files = [("files", ("a.png", drawn("green"))), ("files", ("b.png", b"not a picture"))]
    report = served.client.post("/v1/images", files=files).json()
    assert report["indexed"] == 1
    assert [one["path"] for one in report["rejected"]] == ["b.png"]
    served.client.delete(f"/v1/images/{report['images'][0]['id']}")


def test_a_picture_of_the_owner_loses_its_row_and_keeps_its_file(served: Served) -> None:
    picture = served.root / "flags" / "mine.png"
    picture.write_bytes(drawn("white"))
    row = next(iter(served.index.list('folder == "flags"')))
    file = served.root / str(row.payload["path"])
    vector = served.index.vectors([row.id])[row.id]
    assert served.client.delete(f"/v1/images/{row.id}").json() == {"removed": 1}
    assert file.is_file()
    assert served.client.get(f"/v1/images/{row.id}").status_code == 404
    from tuwen.types import Row

    served.index.upsert([Row(str(row.payload["path"]), vector, row.payload)])
    picture.unlink()


@pytest.mark.parametrize("files", [[], [("file", ("a.png", b"x"))]])
def test_a_form_without_pictures(served: Served, files: list[object]) -> None:
    assert served.client.post("/v1/images", files=files).status_code == 422


@pytest.mark.parametrize("field", ["files", "wrong"])
def test_what_was_put_aside_while_it_arrived_is_closed(
    served: Served, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[SpooledTemporaryFile[bytes]] = []

    def remembered(**options: object) -> "SpooledTemporaryFile[bytes]":
        put.append(SpooledTemporaryFile(**options))  # noqa: SIM115
        return put[-1]

    monkeypatch.setattr(formparsers, "SpooledTemporaryFile", remembered)
    for _ in range(5):
        served.client.post("/v1/images", files=[(field, ("a.png", b"x" * 2_000_000))])
    end = time.monotonic() + 5
    while not all(file.closed for file in put):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert len(put) == 5
