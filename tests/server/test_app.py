"""What stands around the routes: other origins, paces, counts, the description."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from httpx2 import Client

import tuwen
from tuwen.errors import InvalidInput
from tuwen.runtime.encoder import Encoder
from tuwen.server.app import WEB
from tuwen.server.config import ServerConfig, checked
from tuwen.server.fetching import PublicOnly

from .serving import Served, serving

SITE = "https://photos.example"


@pytest.fixture(scope="module")
def shared(encoder: Encoder, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service that a site may call, that gives each caller a pace, and that nobody may write to."""
    with serving(
        encoder, photos, tmp_path_factory.mktemp("shared"), origins=(SITE,), hosts=("NAS.Local",), rate=20.0
    ) as running:
        yield running


def test_a_site_that_may_call(shared: Served) -> None:
    asked = {"origin": SITE, "access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    before = shared.client.options("/v1/search", headers=asked)
    assert (before.status_code, before.headers["access-control-allow-origin"]) == (200, SITE)
    answer = shared.client.post("/v1/search", headers={"origin": SITE}, json={"text": "a"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, SITE)
    other = {**asked, "origin": "https://evil.example"}
    assert "access-control-allow-origin" not in shared.client.options("/v1/search", headers=other).headers


def test_a_further_name_in_any_letters(shared: Served) -> None:
    for name in ("nas.local", "NAS.local:8000"):
        assert shared.client.get("/v1/models", headers={"host": name}).status_code == 200


def test_nobody_writes_where_that_is_not_allowed(shared: Served) -> None:
    row = next(iter(shared.index.list()))
    refused = [
        shared.client.post("/v1/images", files=[("files", ("a.png", b"x"))]),
        shared.client.delete(f"/v1/images/{row.id}"),
    ]
    assert [(it.status_code, it.json()["error"]["code"]) for it in refused] == [(403, "read_only")] * 2
    assert shared.client.get("/v1/index").json()["write"] is False


def test_a_pace(shared: Served) -> None:
    answers = [shared.client.get("/v1/models") for _ in range(100)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert shared.client.get("/health/live").status_code == 200


def test_what_is_counted(served: Served) -> None:
    served.client.post("/v1/search", json={"text": "something to count"})
    served.client.post("/v1/search", json={"text": "something to count"})
    text = served.client.get("/metrics").text
    assert re.search(r'^tuwen_request_seconds_count\{method="POST",route="/v1/search",status="200"\} [2-9]', text, re.M)
    assert re.search(r'^tuwen_batch_size_count\{tower="text"\} [1-9]', text, re.M)
    assert re.search(r"^tuwen_texts_remembered_total [1-9]", text, re.M)
    assert re.search(r'^tuwen_waiting\{queue="image"\} 0', text, re.M)
    assert f'tuwen_build_info{{fingerprint="{served.service.encoder.fingerprint}"' in text
    assert f'version="{tuwen.__version__}"' in text


def test_the_description_needs_nobody_else(client: Client) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    parts = [page.text, *(client.get(f"/static/{name}").text for name in ("docs.css", "docs.js"))]
    assert all(not re.search(r"(?:https?:)?//[a-z]", re.sub(r"^//.*$", "", part, flags=re.M)) for part in parts)
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/search", "/v1/images/{id}/thumbnail", "/v1/embeddings", "/knn-service"} <= set(paths)


def test_static_files(client: Client) -> None:
    assert client.get("/static/docs.js").content == (WEB / "docs.js").read_bytes()
    assert client.get("/static/").status_code == 404
    assert client.get("/static/nothing.js").json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"host": "photos.example"},
        {"keys": ("short",)},
        {"keys": ("with a space in it",)},
        {"read_keys": ("密钥密钥密钥密钥",)},
        {"origins": ("https://photos.example/",)},
        {"origins": ("https://Photos.example",)},
        {"origins": ("photos.example",)},
        {"origins": ("*",)},
    ],
)
def test_configurations_that_cannot_be_meant(wrong: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        checked(ServerConfig(cache=tmp_path, **wrong))


@pytest.mark.parametrize(
    "right",
    [
        {"host": "127.8.9.1"},
        {"host": "::1"},
        {"host": "localhost"},
        {"host": "0.0.0.0", "insecure": True},
        {"host": "::", "read_keys": ("long-enough",)},
        {"origins": ("http://localhost:5173", "moz-extension://0f1e", "null")},
    ],
)
def test_configurations_that_can(right: dict[str, object], tmp_path: Path) -> None:
    assert checked(ServerConfig(cache=tmp_path, **right)).cache == tmp_path


def test_a_picture_by_its_address(
    encoder: Encoder, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service fetches from another one, which passes for a public host."""
    with serving(encoder, photos, tmp_path, allow_url=True) as running:
        row = next(iter(running.index.list()))
        asked = {"image": f"{running.url}v1/images/{row.id}", "k": 1}
        refused = running.client.post("/v1/search", json=asked)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "not_fetched")
        monkeypatch.setattr(PublicOnly, "allows", lambda *_: True)
        (hit,) = running.client.post("/v1/search", json=asked).json()["hits"]
        assert hit["id"] == row.id


def test_searches_of_all_kinds_go_on_while_pictures_come(served: Served, photos: Path) -> None:
    pictures = sorted(photos.rglob("*.webp"))[:8]
    more = [{}, {"exact": True}, {"unique": 0.9}, {"where": "width > 1"}, {"diversity": 0.5}]
    asked = [{"text": "a", **one} for one in more]
    with ThreadPoolExecutor(8) as pool:
        adding = [
            pool.submit(served.client.post, "/v1/images", files=[("files", (it.name, it.read_bytes()))])
            for it in pictures
        ]
        finding = [pool.submit(served.client.post, "/v1/search", json=one) for one in asked * 4]
        assert {one.result().status_code for one in finding} == {200}
        ids = {image["id"] for one in adding for image in one.result().json()["images"]}
    assert len(ids) == 8
    assert [served.client.delete(f"/v1/images/{it}").json() for it in ids] == [{"removed": 1}] * 8


def batches(client: Client) -> dict[str, float]:
    """How many batches of texts there were, and how many texts were in them."""
    found = re.findall(r'^tuwen_batch_size_(sum|count){tower="text"} (.*)$', client.get("/metrics").text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_texts_of_many_clients_run_together(encoder: Encoder, photos: Path, tmp_path: Path) -> None:
    with serving(encoder, photos, tmp_path, batch_wait=0.1) as running, ThreadPoolExecutor(24) as pool:
        before = batches(running.client)
        texts = [f"a picture of {number} things" for number in range(24)]
        asked = [pool.submit(running.client.post, "/v1/search", json={"text": text, "k": 3}) for text in texts]
        found = [one.result().json()["hits"] for one in asked]
        alone = [running.index.search(vector, k=3) for vector in encoder.encode_texts(texts)]
        after = batches(running.client)
    assert after["sum"] - before["sum"] == 24
    assert after["count"] - before["count"] < 12
    assert [[hit["id"] for hit in hits] for hits in found] == [[hit.id for hit in hits] for hits in alone]
