"""Attacks that a service must stand. `docs/en/serve.md` lists them with these tests' names."""

import base64
import io
import os
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from httpx2 import Client
from PIL import Image

from tuwen.runtime.encoder import Encoder
from tuwen.types import Row

from .serving import Served, serving


@pytest.fixture(scope="module")
def small(encoder: Encoder, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with small limits and short patience."""
    limits = {"max_picture": 50_000, "max_upload": 200_000, "body_seconds": 0.5}
    with serving(encoder, photos, tmp_path_factory.mktemp("small"), allow_upload=True, **limits) as running:
        yield running


@pytest.fixture(scope="module")
def locked(encoder: Encoder, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with keys."""
    keys = {"keys": ("write-key-1",), "read_keys": ("read-key-22",)}
    with serving(encoder, photos, tmp_path_factory.mktemp("locked"), allow_upload=True, **keys) as running:
        yield running


def raw(served: Served, data: bytes, *, seconds: float = 20) -> bytes:
    """What is answered to bytes that no client would send."""
    port = int(served.url.rstrip("/").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        answer = b""
        while b"\r\n\r\n" not in answer or b'"status"' not in answer:
            piece = connection.recv(65536)
            if not piece:
                break
            answer += piece
    return answer


def with_key(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def row_with(served: Served, key: str, **facts: object) -> str:
    """A row that the index has by other ways, such as a build; its id."""
    vector = next(iter(served.index.vectors([row.id for row in served.index.list()][:1]).values()))
    payload = {"folder": "", "name": key, "content": "0" * 64, "width": 1, "height": 1, "format": "JPEG"}
    served.index.upsert([Row(key, vector, {**payload, "bytes": 1, "modified": 1.0, **facts})])
    return next(row.id for row in served.index.list() if row.payload["path"] == key)


@pytest.mark.parametrize(
    "target",
    [
        "/static/../../../pyproject.toml",
        "/static/..%2f..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/..\\..\\app.py",
        "/v1/images/../../etc/passwd",
        "/v1/images/..%2f..%2fetc%2fpasswd",
        "/v1/images/%2fetc%2fpasswd/thumbnail",
        "/%2e%2e/%2e%2e/etc/passwd",
    ],
)
def test_path_traversal(served: Served, target: str) -> None:
    answer = raw(served, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ")[1] in (b"404", b"422")
    assert b"root:" not in answer


def test_a_row_outside_of_the_collection(served: Served) -> None:
    outside = served.root.parent / "secret.jpg"
    Image.new("RGB", (9, 9)).save(outside)
    ident = row_with(served, str(outside))
    for what in ("", "/thumbnail"):
        assert served.client.get(f"/v1/images/{ident}{what}").status_code == 404
    served.index.remove([str(outside)])


def test_a_link_that_leads_outside(served: Served) -> None:
    outside = served.root.parent / "hidden.jpg"
    Image.new("RGB", (9, 9)).save(outside)
    (served.root / "link.jpg").symlink_to(outside)
    (served.root / "folder").symlink_to(served.root.parent)
    for key in ("link.jpg", "folder/hidden.jpg"):
        ident = row_with(served, key)
        for what in ("", "/thumbnail"):
            assert served.client.get(f"/v1/images/{ident}{what}").status_code == 404
        served.index.remove([key])
    (served.root / "link.jpg").unlink()
    (served.root / "folder").unlink()


def test_a_pipe_does_not_hang(served: Served) -> None:
    os.mkfifo(served.root / "pipe.jpg")
    ident = row_with(served, "pipe.jpg")
    assert served.client.get(f"/v1/images/{ident}").status_code == 404
    served.index.remove(["pipe.jpg"])
    (served.root / "pipe.jpg").unlink()


@pytest.mark.parametrize(
    "content",
    [b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", b"<html><script>1</script>"],
)
def test_markup_is_never_shown(served: Served, content: bytes) -> None:
    (served.root / "x.jpg").write_bytes(content)
    ident = row_with(served, "x.jpg")
    answer = served.client.get(f"/v1/images/{ident}")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    served.index.remove(["x.jpg"])
    (served.root / "x.jpg").unlink()


def test_the_name_of_an_upload_goes_nowhere(served: Served) -> None:
    before = {path for path in served.root.parent.rglob("*") if path.is_file() and served.root in path.parents}
    data = io.BytesIO()
    Image.new("RGB", (8, 8), "pink").save(data, format="PNG")
    names = ["../../../evil.png", "/tmp/evil.png", "..\\evil.png", "a\x00.png", "<script>.png", "uploads/../x.png"]
    for name in names:
        report = served.client.post("/v1/images", files=[("files", (name, data.getvalue()))]).json()
        path = served.root / report["images"][0]["path"]
        assert path.parent == served.root / "uploads"
    after = {path for path in served.root.rglob("*") if path.is_file()}
    assert after - before == {path}
    served.client.delete(f"/v1/images/{report['images'][0]['id']}")


def test_scripts_in_names_and_captions_stay_text(served: Served) -> None:
    evil = "<script>alert(1)</script>.jpg"
    ident = row_with(served, evil, caption="<img src=x onerror=alert(1)>")
    answer = served.client.get(f"/v1/images/{ident}/facts")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["payload"]["name"] == evil
    policy = served.client.get("/docs").headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    served.index.remove([evil])


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG that claims a size, whatever its data is."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_pixel_bomb(small: Served) -> None:
    bomb = png(60_000, 60_000, zlib.compress(b"\0" * 10_000))
    report = small.client.post("/v1/images", files=[("files", ("bomb.png", bomb))]).json()
    assert [one["path"] for one in report["rejected"]] == ["bomb.png"]
    image = base64.b64encode(bomb).decode()
    assert small.client.post("/v1/search", json={"image": image}).status_code == 422


def test_a_zip_bomb_in_a_picture(small: Served) -> None:
    bomb = png(100, 100, zlib.compress(b"\0" * 30_000_000, 9))
    start = time.monotonic()
    assert small.client.post("/v1/images", files=[("files", ("bomb.png", bomb))]).status_code == 200
    assert time.monotonic() - start < 5
    for row in small.index.list('folder == "uploads"'):
        small.client.delete(f"/v1/images/{row.id}")


def test_a_compressed_body_is_not_unpacked(served: Served) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = served.client.post("/v1/search", content=zlib.compress(b" " * 50_000_000), headers=headers)
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"text":' * 50_000,
        b'{"text":"a","k":' + b"9" * 10_000 + b"}",
        b'{"text":"a","k":1e999}',
        b'{"text":"a","min_score":NaN}',
        b"\xff\xfe",
        b'{"text":"\\ud800"}',
    ],
    ids=["deep list", "deep object", "long number", "infinity", "nan", "no utf-8", "half a pair"],
)
def test_json_bombs(served: Served, body: bytes) -> None:
    answer = served.client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert set(answer.json()["error"]) == {"code", "message", "status"}


@pytest.mark.parametrize("where", ["(" * 4000, "not " * 1000 + "width > 1", "width > 1 and " * 300 + "width > 1"])
def test_filter_bombs(served: Served, where: str) -> None:
    start = time.monotonic()
    assert served.client.post("/v1/search", json={"text": "a", "where": where}).status_code in (200, 422)
    assert time.monotonic() - start < 10


def test_too_long_bodies(small: Served) -> None:
    picture = base64.b64encode(b"x" * 100_000).decode()
    assert small.client.post("/v1/search", json={"image": picture}).status_code == 413
    assert small.client.post("/v1/search", content=b"x" * 2_000_000).status_code == 413
    big = [("files", ("a.png", b"x" * 300_000))]
    assert small.client.post("/v1/images", files=big).status_code == 413
    report = small.client.post("/v1/images", files=[("files", ("a.png", b"x" * 60_000))]).json()
    assert [one["path"] for one in report["rejected"]] == ["a.png"]


def test_a_long_body_that_does_not_say_so(small: Served) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    head = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw(small, head + 20 * chunk).split(b" ")[1] == b"413"


def test_huge_headers(served: Served) -> None:
    for head in (b"X: " + b"x" * 100_000, b"\r\n".join(b"X%d: y" % n for n in range(10_000))):
        answer = raw(served, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n")
        assert answer.split(b" ")[1] in (b"400", b"431")
        assert b'{"error":' in answer


def test_what_is_no_http(served: Served) -> None:
    assert raw(served, b"\x16\x03\x01\x02\x00\x01\r\n\r\n").split(b" ")[1] == b"400"


def test_a_slow_head_is_hung_up_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuwen.server.serving.HEAD_SECONDS", 0.3)
    start = time.monotonic()
    assert raw(served, b"GET /health/live HTTP/1.1\r\nHost: loc") == b""
    assert raw(served, b"") == b""
    assert time.monotonic() - start < 5


def test_a_slow_body_is_refused(small: Served) -> None:
    head = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    answer = raw(small, head + b"Content-Length: 50\r\n\r\n{")
    assert answer.split(b" ")[1] == b"408"


def test_one_connection_too_many(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuwen.server.serving.CONNECTIONS", 0)
    with suppress(ConnectionError):
        assert raw(served, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""


def test_without_a_key(locked: Served) -> None:
    for method, path in [
        ("GET", "/v1/images"),
        ("GET", "/v1/index"),
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("POST", "/v1/search"),
        ("POST", "/v1/images"),
        ("DELETE", "/v1/images/x"),
        ("GET", "/v1/images/x/thumbnail"),
        ("GET", "/no/such/page"),
        ("GET", "//v1/images"),
    ]:
        answer = locked.client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "no_key"), path
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/health/live", "/health/ready", "/docs", "/openapi.json"):
        assert locked.client.get(path).status_code == 200


def test_a_read_key_does_not_write(locked: Served) -> None:
    read = with_key("read-key-22")
    assert locked.client.post("/v1/search", json={"text": "a"}, headers=read).status_code == 200
    assert locked.client.get("/v1/index", headers=read).json()["write"] is False
    assert locked.client.post("/v1/images", headers=read).status_code == 403
    assert locked.client.delete("/v1/images/x", headers=read).status_code == 403
    assert locked.client.get("/v1/index", headers={"x-api-key": "write-key-1"}).json()["write"] is True


def test_guessing_keys(locked: Served) -> None:
    answers = [locked.client.get("/v1/index", headers=with_key(f"guess-{n}")).status_code for n in range(20)]
    assert answers[:10] == [401] * 10
    assert set(answers[11:]) == {429}
    refused = locked.client.get("/v1/index", headers=with_key("write-key-1"))
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]"])
def test_dns_rebinding(served: Served, host: str) -> None:
    answer = served.client.get("/v1/index", headers={"host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "wrong_host")


def test_a_page_of_another_origin(served: Served) -> None:
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        answer = served.client.post("/v1/images", headers={"origin": origin}, files=[("files", ("a.png", b"x"))])
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_origin")
        answer = served.client.get("/v1/index", headers={"origin": origin})
        assert "access-control-allow-origin" not in answer.headers
    own = served.url.rstrip("/")
    assert served.client.post("/v1/search", headers={"origin": own}, json={"text": "a"}).status_code == 200


def test_urls_are_not_fetched_unless_allowed(client: Client) -> None:
    answer = client.post("/v1/search", json={"image": "http://169.254.169.254/latest/meta-data"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "no_urls")


def test_no_answer_shows_the_code(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret at /srv/secret.py")

    monkeypatch.setattr(served.service.listing, "page", broken)
    answer = served.client.get("/v1/images")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/search", 405),
        ("POST", "/v1/search", 422),
        ("GET", "/v1/images/x", 404),
    ],
)
def test_every_error_has_one_shape(client: Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "status"}
    assert error["status"] == status
    assert "\n" not in error["message"]
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(("header", "status"), [("bytes=a-b", 400), ("bytes=99999999-", 416)])
def test_a_range_that_a_file_does_not_have(served: Served, header: str, status: int) -> None:
    row = next(iter(served.index.list()))
    answer = served.client.get(f"/v1/images/{row.id}", headers={"range": header})
    assert answer.status_code == answer.json()["error"]["status"] == status
    assert set(answer.json()["error"]) == {"code", "message", "status"}


def test_a_request_id_cannot_break_a_line(client: Client) -> None:
    assert client.get("/health/live", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert len(client.get("/health/live", headers={"x-request-id": 'a"}{"b'}).headers["x-request-id"]) == 32
