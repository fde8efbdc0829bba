"""An application at an address, until it is told to stop. Knows sockets and limits of HTTP itself; no route."""

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


# ---- HTTP as it comes off the wire

HEAD = 16 * 2**10
"""bytes of a request's first line and headers"""
HEAD_SECONDS = 15.0
"""for a request's first line and headers"""
CONNECTIONS = 2_000
"""at a time; further ones are closed at once"""


class Listener(HttpToolsProtocol):
    """One connection."""

    _patience: asyncio.TimerHandle | None = None
    _head: int | None = None
    """bytes of the head that is arriving; None while none is"""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has called."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """A piece of a request."""
        super().data_received(data)
        self._measure_head(len(data))
        self._expect_head()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._head = 0

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        super().on_headers_complete()
        self._head = None

    def connection_lost(self, exc: Exception | None) -> None:
        """They have gone."""
        super().connection_lost(exc)
        self._be_patient()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or has too long a head, is answered in the shape of all errors."""
        error = {"code": "bad_request", "message": msg.rstrip(".").lower(), "status": 400}
        body = json.dumps({"error": error}).encode()
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[400] + head + body)
        self.transport.close()

    def _measure_head(self, count: int) -> None:
        """A head that is too long is answered, unless that would fall into the answer to an earlier request."""
        if self._head is None or self.transport.is_closing():
            return
        self._head += count
        if self._head > HEAD and self._idle():
            self.send_400_response("the request's head is too long")
        elif self._head > HEAD:
            self.transport.abort()

    def _expect_head(self) -> None:
        """A timer runs exactly while the next request's head is awaited."""
        if not self._idle():
            self._be_patient()
        elif self._patience is None:
            self._patience = self.loop.call_later(HEAD_SECONDS, self._end)

    def _idle(self) -> bool:
        """Whether no request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle  # until the first request there is none
        return cycle is None or cycle.response_complete

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _end(self) -> None:
        self._patience = None
        if self._idle():
            self.transport.close()


# ---- An application at an address

BACKLOG = 2048
"""callers that wait to be let in"""
IDLE = 10
"""seconds that a connection is kept without a request"""
GRACE = 30
"""seconds that requests have to end after the service was told to"""


def listen(config: ServerConfig) -> socket.socket:
    """Take the address: who calls from now on waits until the application is there.

    Raises:
        InvalidInput: it is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle's delay on
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((config.host, config.port))
        taken.listen(BACKLOG)
    except OSError as error:
        taken.close()
        raise InvalidInput(f"{config.host}:{config.port} cannot be listened at: {error.strerror}") from error
    return taken


def address(listening: socket.socket) -> str:
    """How a browser on this machine calls it."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}/"


def server_of(app: "FastAPI") -> uvicorn.Server:
    """What runs the application: `server.run(sockets=[listen(config)])`."""
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
