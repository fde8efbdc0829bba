"""Deadlines, and clients that leave."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from httpx2 import Client, ReadTimeout

from tuwen.runtime.encoder import Encoder
from tuwen.types import Tokens

from .serving import Served, serving


class Gated:
    """An encoder whose texts wait at a gate; it counts what it encodes."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.open = threading.Event()
        self.open.set()
        self.texts: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._encoder, name)

    def to_tokens(self, texts: Sequence[str]) -> Tokens:
        self.texts += texts
        self.open.wait(10)
        return self._encoder.to_tokens(texts)


@pytest.fixture(scope="module")
def gated(encoder: Encoder) -> Gated:
    return Gated(encoder)


@pytest.fixture(scope="module")
def slow(gated: Gated, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service that encodes one text at a time, lets three wait, and answers within a second or not at all."""
    limits = {"max_batch": 1, "queue": 3, "deadline": 2.0, "text_cache": 0, "batch_wait": 0.0}
    with serving(gated, photos, tmp_path_factory.mktemp("slow"), **limits) as running:
        yield running


@pytest.fixture
def closed(gated: Gated) -> Iterator[Gated]:
    gated.texts.clear()
    gated.open.clear()
    yield gated
    gated.open.set()
    time.sleep(0.1)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_an_answer_that_takes_too_long(slow: Served, closed: Gated) -> None:
    answer = slow.client.post("/v1/search", json={"text": "late"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline")


def test_a_full_queue(slow: Served, closed: Gated) -> None:
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(slow.client.post, "/v1/search", json={"text": f"text {n}"}) for n in range(12)]
        until(lambda: sum(one.done() for one in asked) == 8)
        refused = [one.result() for one in asked if one.done()]
        closed.open.set()
        answered = [one.result() for one in asked if one.result() not in refused]
    assert {answer.status_code for answer in refused} == {429}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert [answer.status_code for answer in answered] == [200] * 4
    assert slow.client.post("/v1/search", json={"text": "after"}).status_code == 200


def test_a_client_that_leaves_takes_its_text_along(slow: Served, closed: Gated) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(slow.client.post, "/v1/search", json={"text": "first"})
        until(lambda: closed.texts == ["first"])
        with Client(base_url=slow.url, timeout=0.2) as leaving, pytest.raises(ReadTimeout):
            leaving.post("/v1/search", json={"text": "leaving"})
        until(lambda: slow.service.texts.batcher.waiting == 0)
        closed.open.set()
        assert first.result().status_code == 200
    slow.client.post("/v1/search", json={"text": "last"})
    assert closed.texts == ["first", "last"]


def test_a_client_that_leaves_in_the_middle_of_its_body(slow: Served) -> None:
    port = int(slow.url.rstrip("/").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
    assert slow.client.get("/health/ready").status_code == 200


def test_what_was_accepted_is_answered_before_the_end(gated: Gated, photos: Path, tmp_path: Path) -> None:
    served = serving(gated, photos, tmp_path, text_cache=0)
    with ThreadPoolExecutor(4) as pool, served as running, Client(base_url=running.url) as other:
        gated.open.clear()
        asked = [pool.submit(other.post, "/v1/search", json={"text": f"end {n}"}) for n in range(4)]
        until(lambda: any("end" in text for text in gated.texts))
        time.sleep(0.2)
        running.stop()
        threading.Timer(0.5, gated.open.set).start()
        assert [one.result().status_code for one in asked] == [200] * 4
