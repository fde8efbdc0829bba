"""HTTP as it comes off the wire: no connection may idle in the middle of a request's head, nor be one too many.

Knows connections. Does not know any application. The framework's own limits end where its application begins.
"""

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

HEAD_SECONDS = 15.0
"""for a request's first line and headers"""
CONNECTIONS = 2_000
"""at a time; further ones are closed at once"""


class Listener(H11Protocol):
    """One connection."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has called."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """A piece of a request."""
        super().data_received(data)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """They have gone."""
        super().connection_lost(exc)
        self._be_patient()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or has too long a head, is answered in the shape of all errors."""
        error = {"code": "bad_request", "message": msg.rstrip(".").lower(), "status": 400}
        body = json.dumps({"error": error}).encode()
        headers: Any = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

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
