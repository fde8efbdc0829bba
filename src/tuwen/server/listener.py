"""HTTP as it comes off the wire: no head may be too long or stay unfinished, no connection be one too many.

Knows connections. Does not know any application. The framework's own limits end where its application begins.
"""

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

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
