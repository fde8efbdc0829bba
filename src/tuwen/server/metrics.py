"""What a service counts, for Prometheus. Each application has a registry of its own; nothing global is touched."""

import re
from collections.abc import Callable, Iterator
from random import getrandbits
from time import perf_counter
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuwen import __version__
from tuwen.server.errors import answer_to, fault_of, plain_fault, route_path
from tuwen.server.logs import RequestLog, route_of

if TYPE_CHECKING:
    from tuwen.server.service import Service

router = APIRouter(tags=["health"])
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Counters and latencies, in Prometheus' text format."""
    counted: Metrics = request.app.state.metrics
    return Response(generate_latest(counted.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class Metrics:
    """The registry, and what is written to it while requests come."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("method", "route", "status")
        self._requests = Histogram("tuwen_request_seconds", "Answers.", labels, registry=self.registry)
        self._batches = Histogram(
            "tuwen_batch_size", "Inputs that ran together.", ("tower",), buckets=_SIZES, registry=self.registry
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """An answer was given. `route`: its pattern, not its address: there are few of these."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def batch_sizes(self, tower: str) -> Callable[[int], object]:
        """What a tower's batcher calls with the size of each batch."""
        return self._batches.labels(tower).observe

    def watch(self, service: "Service") -> None:
        """Look at a service whenever somebody asks."""
        encoder = service.encoder
        build = Info("tuwen_build", "What runs.", registry=self.registry)
        build.info({"version": __version__, "model": encoder.name, "fingerprint": encoder.fingerprint})
        self.registry.register(_Looking(service))


class _Looking(Collector):
    """Numbers that are there anyway, read when they are wanted."""

    def __init__(self, service: "Service") -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        service = self._service
        waiting = GaugeMetricFamily("tuwen_waiting", "Inputs that wait.", labels=["queue"])
        waiting.add_metric(["text"], service.texts.batcher.waiting)
        waiting.add_metric(["image"], service.pictures.batcher.waiting)
        yield waiting
        yield CounterMetricFamily(
            "tuwen_texts_remembered", "Texts that did not have to be encoded.", value=service.texts.found
        )


# ---- Around every request

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
        request_id = given if _ID.fullmatch(given) else f"{getrandbits(128):032x}"
        answer = _Answering(send, route_path(scope), request_id)
        scope["tuwen.request_id"] = answer.request_id
        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            fault = fault_of(error)
            if fault.status_code >= 500:
                self._log.error(error, answer.request_id)
            if not answer.status:
                await answer_to(fault, route_path(scope))(scope, receive, answer)
        finally:
            seconds, status = perf_counter() - start, answer.status or GONE
            self._metrics.request(scope["method"], route_of(scope), status, seconds)
            self._log.request(scope, answer.request_id, status, seconds)


class _Answering:
    """What is sent, with the headers of every answer. Errors that the framework writes as plain text become JSON."""

    def __init__(self, send: Send, path: str, request_id: str) -> None:
        self._send = send
        self._path = path
        self._replaced = False
        self.request_id = request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = Headers(raw=message.get("headers", []))
            self._replaced = self.status >= 400 and headers.get("content-type", "").startswith("text/plain")
            if self._replaced:
                await self._send_error(headers)
                return
            own = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
            given = {name for name, _ in own}
            message["headers"] = own + [header for header in _RAW if header[0] not in given]
        await self._send(message)

    async def _send_error(self, headers: Headers) -> None:
        """Bad ranges of files, preflight requests that CORS refuses."""
        kept = {name: value for name, value in headers.items() if not name.startswith("content-") or "range" in name}
        answer = answer_to(plain_fault(self.status, kept), self._path)
        self._replaced = False
        await self({"type": "http.response.start", "status": self.status, "headers": answer.raw_headers})
        self._replaced = True
        await self._send({"type": "http.response.body", "body": answer.body})
