"""Listen for requests: the socket, the limits of HTTP itself, and the server that runs the application."""

import asyncio
import json
import socket
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from tuwen.errors import InvalidInput
from tuwen.server.config import ServerConfig

if TYPE_CHECKING:
    from fastapi import FastAPI

HEAD = 16 * 2**10
"""bytes of a request's first line and headers"""
HEAD_SECONDS = 15.0
"""seconds within which the first line and the headers of a request must arrive"""
CONNECTIONS = 2_000
"""connections at a time; further ones are closed immediately"""


class Listener(HttpToolsProtocol):
    """One connection, with limits on the head of a request: its size and how slowly it may arrive."""

    _timer: asyncio.TimerHandle | None = None
    _head: int | None = None
    """bytes of the head that is arriving; None between heads"""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """A part of a request has arrived."""
        super().data_received(data)
        self._measure_head(len(data))
        self._expect_head()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head = 0

    def on_headers_complete(self) -> None:
        """The head of a request is complete."""
        super().on_headers_complete()
        self._head = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has disconnected."""
        super().connection_lost(exc)
        self._stop_timer()

    def send_400_response(self, msg: str) -> None:
        """Respond to requests that are not HTTP or have too long a head, in the common shape of errors."""
        error = {"code": "bad_request", "message": msg.rstrip(".").lower(), "status": 400}
        body = json.dumps({"error": error}).encode()
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[400] + head + body)
        self.transport.close()

    def _measure_head(self, count: int) -> None:
        """Refuse a head that is too long, but not in the middle of the response to an earlier request."""
        if self._head is None or self.transport.is_closing():
            return
        self._head += count
        if self._head > HEAD and self._idle():
            self.send_400_response("the head of the request is too long")
        elif self._head > HEAD:
            self.transport.abort()

    def _expect_head(self) -> None:
        """Run a timer only while the head of the next request is expected."""
        if not self._idle():
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._end)

    def _idle(self) -> bool:
        """Whether no request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle  # None until the first request
        return cycle is None or cycle.response_complete

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self._timer = None
        if self._idle():
            self.transport.close()


BACKLOG = 2048
"""connections that wait to be accepted"""
IDLE = 10
"""seconds that an idle connection is kept"""
GRACE = 30
"""seconds that requests have to finish after the service was told to stop"""


def listen(config: ServerConfig) -> socket.socket:
    """Bind the configured address; clients that connect from now on wait for the application.

    Raises:
        InvalidInput: the address is in use, or does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle's delay on
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((config.host, config.port))
        taken.listen(BACKLOG)
    except OSError as error:
        taken.close()
        raise InvalidInput(f"cannot listen at {config.host}:{config.port}: {error.strerror}") from error
    return taken


def address(listening: socket.socket) -> str:
    """The URL for a browser on this machine."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}/"


def server_of(app: "FastAPI") -> uvicorn.Server:
    """The server that runs the application: `server.run(sockets=[listen(config)])`."""
    config = uvicorn.Config(
        app,
        http=Listener,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)
