"""Around every request: its id, the headers of every answer, an answer for every error, a line in the log.

Knows nothing of what is asked. Stands outermost, so nothing escapes it.
"""

import re
from random import getrandbits
from time import perf_counter

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuwen.server.faults import answer_to, fault_of
from tuwen.server.logs import RequestLog, route_of
from tuwen.server.metrics import Metrics

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""of every answer that does not say otherwise itself"""
_RAW = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
GONE = 499
"""the status of a request whose client did not wait for an answer"""

_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Record:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, log: RequestLog, metrics: Metrics) -> None:
        self._app = app
        self._log = log
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = perf_counter()
        given = Headers(scope=scope).get("x-request-id", "")
        answer = _Answering(send, given if _ID.fullmatch(given) else f"{getrandbits(128):032x}")
        scope["tuwen.request_id"] = answer.request_id
        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            fault = fault_of(error)
            if fault.status_code >= 500:
                self._log.error(error, answer.request_id)
            if not answer.status:
                await answer_to(fault)(scope, receive, answer)
        finally:
            seconds, status = perf_counter() - start, answer.status or GONE
            self._metrics.request(scope["method"], route_of(scope), status, seconds)
            self._log.request(scope, answer.request_id, status, seconds)


class _Answering:
    """What is sent, with the headers of every answer."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
            given = {name for name, _ in own}
            message["headers"] = own + [header for header in _RAW if header[0] not in given]
        await self._send(message)
