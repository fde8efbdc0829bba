"""Busy services, broken connections, wrong addresses: against a server that answers what a test tells it to."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import tuwen
from tuwen.client.transport import ATTEMPTS
from tuwen.errors import InvalidInput, KeyRefused, NotFound, ServiceBusy, ServiceFault, ServiceUnreachable, TooLarge
from tuwen.search.query import RowId

Answers = list[tuple[int, dict[str, str], bytes] | None]
FOUND = (200, {}, b'{"query": "x", "model": "m", "hits": []}')
BUSY = (429, {"Retry-After": "0"}, b'{"error": {"code": "busy", "message": "too many", "status": 429}}')


class Scripted(ThreadingHTTPServer):
    """Gives its answers in turn; None closes the connection without one. Then the last one again and again."""

    daemon_threads = True

    def __init__(self, answers: Answers) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, address: object) -> None:
        """Clients that go away are what is tested here."""


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        server = self.server
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.asked.append(f"{self.command} {self.headers.get('Authorization')}")
        answer = server.answers[min(len(server.asked), len(server.answers)) - 1]
        if answer is None:
            self.close_connection = True
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815  (the names that are looked for)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    running: list[Scripted] = []

    def start(*answers: tuple[int, dict[str, str], bytes] | None) -> Scripted:
        server = Scripted(list(answers))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def test_a_busy_service_is_asked_again(scripted) -> None:
    server = scripted(BUSY, (503, {}, b"soon"), FOUND)
    with tuwen.Client(server.url, key="secret-key") as client:
        assert client.search("apple") == []
    assert server.asked == ["POST Bearer secret-key"] * 3


def test_but_not_for_ever(scripted) -> None:
    server = scripted(BUSY)
    with tuwen.Client(server.url) as client, pytest.raises(ServiceBusy):
        client.search("apple")
    assert len(server.asked) == ATTEMPTS


def test_the_time_that_it_names_is_waited_for(scripted) -> None:
    server = scripted((429, {"Retry-After": "1"}, b""), FOUND)
    start = time.monotonic()
    with tuwen.Client(server.url) as client:
        client.search("apple")
    assert time.monotonic() - start >= 1


def test_no_longer_than_the_timeout(scripted) -> None:
    server = scripted((429, {"Retry-After": "3600"}, b""))
    start = time.monotonic()
    with tuwen.Client(server.url, timeout=5) as client, pytest.raises(ServiceBusy):
        client.search("apple")
    assert time.monotonic() - start < 5
    assert len(server.asked) == 1


def test_a_broken_connection_is_made_again_but_for_removals(scripted) -> None:
    server = scripted(None, FOUND, None)
    with tuwen.Client(server.url) as client:
        assert client.search("apple") == []
        with pytest.raises(ServiceUnreachable):
            client.remove([RowId("row")])
    assert len(server.asked) == 3


def test_nobody_is_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with (
        tuwen.Client(f"http://127.0.0.1:{port}/") as client,
        pytest.raises(ServiceUnreachable),
    ):
        client.info()


def test_no_answer_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with tuwen.Client(url, timeout=0.2) as client, pytest.raises(ServiceUnreachable):
            client.info()


@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        ((200, {}, b"<html>a router</html>"), ServiceFault, None),
        ((200, {}, b"[1]"), ServiceFault, None),
        ((200, {}, b'{"status": "ok"}'), ServiceFault, None),
        ((301, {"Location": "https://elsewhere.example/"}, b""), ServiceFault, 301),
        ((401, {}, b'{"error": {"message": "a key is needed"}}'), KeyRefused, 401),
        ((403, {}, b'{"error": {"message": "read only"}}'), KeyRefused, 403),
        ((404, {}, b"nginx"), NotFound, 404),
        ((413, {}, b"nginx"), TooLarge, 413),
        ((422, {}, b'{"error": {"message": "k: too large"}}'), InvalidInput, 422),
        ((500, {}, b'{"error": {"message": "a bug"}}'), ServiceFault, 500),
    ],
)
def test_answers_that_are_no_good(scripted, answer, kind: type, status: int | None) -> None:
    with tuwen.Client(scripted(answer).url) as client, pytest.raises(kind) as raised:
        client.search("apple")
    assert raised.value.value == status


@pytest.mark.parametrize("key", ["ключ", "two\nlines"])
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(InvalidInput):
        tuwen.Client("http://127.0.0.1", key=key)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://example.org", "http://", "http://[::1", ""])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InvalidInput):
        tuwen.Client(url)
