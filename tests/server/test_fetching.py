"""Pictures by address. 127.0.0.2 stands for a public host here, and 127.0.0.1 is what it is: private."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tuwen.server.fetching import Fetcher, PublicOnly, is_public
from tuwen.server.responses import APIError

MOST = 100_000
pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2", "::1"])


class Host(BaseHTTPRequestHandler):
    """Answers by path; counts who has come."""

    visits: list[str] = []  # noqa: RUF012  (of all instances: there is one a request)

    def do_GET(self) -> None:
        self.visits.append(self.path)
        port = self.server.server_address[1]
        places = {
            "/to-private": f"http://127.0.0.1:{port}/secret",
            "/to-picture": "/picture",
            "/to-file": "file:///etc/passwd",
            "/to-nowhere": "http://[::1",
            "/round": "/round",
        }
        if self.path in places:
            self.answer(302, b"", places[self.path])
        elif self.path == "/endless":
            self.pour()
        else:
            self.answer(200 if self.path in ("/picture", "/secret") else 404, self.path[1:].encode())

    def pour(self) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(b"x" * 65536)

    def answer(self, status: int, body: bytes, location: str = "") -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if location:
            self.send_header("location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Pretending(PublicOnly):
    """127.0.0.2 is public. `public.test` is its name, `rebinding.test` one that answers differently later."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def resolve(self, host: str, port: int) -> list[str]:
        self.asked += 1
        known = {
            "public.test": ["127.0.0.2"],
            "rebinding.test": ["127.0.0.2" if self.asked == 1 else "127.0.0.1"],
            "both.test": ["127.0.0.2", "127.0.0.1"],
        }
        return known.get(host) or await super().resolve(host, port)

    def allows(self, address: str) -> bool:
        return address == "127.0.0.2" or super().allows(address)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("0.0.0.0", 0), Host) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def fetch(url: str) -> bytes:
    Host.visits.clear()
    return asyncio.run(Fetcher(MOST, Pretending()).fetch(url))


def refused(url: str) -> APIError:
    with pytest.raises(APIError) as error:
        fetch(url)
    return error.value


def test_a_picture_at_a_public_address(port: int) -> None:
    assert fetch(f"http://public.test:{port}/picture") == b"picture"
    assert fetch(f"http://public.test:{port}/to-picture") == b"picture"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0", "both.test"]
)
def test_private_hosts_are_not_even_connected_to(port: int, host: str) -> None:
    assert refused(f"http://{host}:{port}/secret").status_code == 422
    assert Host.visits == []


def test_a_redirect_to_a_private_address_ends_there(port: int) -> None:
    assert refused(f"http://public.test:{port}/to-private").status_code == 422
    assert Host.visits == ["/to-private"]


def test_a_name_that_changes_gains_nothing(port: int) -> None:
    assert fetch(f"http://rebinding.test:{port}/picture") == b"picture"
    backend = Pretending()
    backend.asked = 1
    with pytest.raises(APIError):
        asyncio.run(Fetcher(MOST, backend).fetch(f"http://rebinding.test:{port}/picture"))


def test_redirects_end(port: int) -> None:
    assert refused(f"http://public.test:{port}/round").status_code == 422
    assert len(Host.visits) == 4


def test_what_never_ends_is_cut(port: int) -> None:
    assert refused(f"http://public.test:{port}/endless").status_code == 413


@pytest.mark.parametrize("path", ["to-file", "to-nowhere", "missing"])
def test_what_cannot_be_had(port: int, path: str) -> None:
    assert refused(f"http://public.test:{port}/{path}").status_code == 422


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://public.test/a",
        "http://",
        "http://a b/",
        "http://user@public.test/",
        "http://public.test:99999/",
        "http://é.test/",
    ],
)
def test_other_addresses(url: str) -> None:
    assert refused(url).status_code == 422


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("nonsense", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public
