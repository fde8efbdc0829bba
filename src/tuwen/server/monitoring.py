"""Monitoring: a log line, Prometheus metrics and the common headers for every request, and errors as responses.

`Monitoring` wraps the other middleware. Logs are JSON documents, one per line, and do not contain queries unless that
is configured. Each application has its own registry of metrics.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
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
from tuwen.server.config import Log
from tuwen.server.responses import as_api_error, error_answer, plain_error, route_path

if TYPE_CHECKING:
    from tuwen.server.service import Service

LOGGER = logging.getLogger("tuwen.server")
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
"""headers of every response that does not set them itself"""
LEFT = 499
"""the status logged for a request whose client disconnected before the response"""
_RAW = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Counters and latencies in Prometheus' text format."""
    counted: Metrics = request.app.state.metrics
    return Response(generate_latest(counted.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class Monitoring:
    """ASGI middleware that logs and counts requests, and turns exceptions into responses."""

    def __init__(self, app: ASGIApp, log: Log, metrics: "Metrics") -> None:
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
        scope["tuwen.request_id"] = request_id
        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            found = as_api_error(error)
            if found.status_code >= 500:
                LOGGER.error("error", exc_info=error, extra={"fields": {"id": request_id}})
            if not answer.status:
                await error_answer(found, route_path(scope))(scope, receive, answer)
        finally:
            seconds, status = perf_counter() - start, answer.status or LEFT
            self._metrics.request(scope["method"], route_of(scope), status, seconds)
            if self._log in ("requests", "queries"):
                self._log_request(scope, request_id, status, seconds)

    def _log_request(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        fields = {
            "id": request_id,
            "method": scope["method"],
            "route": route_of(scope),
            "status": status,
            "ms": round(seconds * 1000, 1),
            "client": scope["client"][0] if scope.get("client") else "",
        }
        if self._log == "queries":
            fields |= {"path": scope["path"], "query": scope["state"].get("query", "")}
        LOGGER.info("request", extra={"fields": fields})


class _Answering:
    """Sends a response with the common headers. Plain-text errors of the framework become JSON."""

    def __init__(self, send: Send, path: str, request_id: str) -> None:
        self._send = send
        self._path = path
        self._request_id = request_id
        self._replaced = False
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
            own = [*message.get("headers", ()), (b"x-request-id", self._request_id.encode())]
            given = {name for name, _ in own}
            message["headers"] = own + [header for header in _RAW if header[0] not in given]
        await self._send(message)

    async def _send_error(self, headers: Headers) -> None:
        """Replace a plain-text error, such as an invalid byte range or a refused CORS preflight request."""
        kept = {name: value for name, value in headers.items() if not name.startswith("content-") or "range" in name}
        answer = error_answer(plain_error(self.status, kept), self._path)
        self._replaced = False
        await self({"type": "http.response.start", "status": self.status, "headers": answer.raw_headers})
        self._replaced = True
        await self._send({"type": "http.response.body", "body": answer.body})


class Metrics:
    """The metrics of an application, with their registry."""

    SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("method", "route", "status")
        self._requests = Histogram(
            "tuwen_request_seconds", "Seconds until the response.", labels, registry=self.registry
        )
        self._batches = Histogram(
            "tuwen_batch_size", "Inputs encoded together.", ("tower",), buckets=self.SIZES, registry=self.registry
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a response. `route` is the route's pattern, not the path, to keep the number of series small."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def batch_sizes(self, tower: str) -> Callable[[int], object]:
        """The function to call with the size of each batch of a tower."""
        return self._batches.labels(tower).observe

    def watch(self, service: "Service") -> None:
        """Report the state of a service whenever metrics are read."""
        encoder = service.encoder
        build = Info("tuwen_build", "Version and model.", registry=self.registry)
        build.info({"version": __version__, "model": encoder.name, "fingerprint": encoder.fingerprint})
        self.registry.register(_ServiceState(service))


class _ServiceState(Collector):
    """The current state of the service, collected when metrics are read."""

    def __init__(self, service: "Service") -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        service = self._service
        waiting = GaugeMetricFamily("tuwen_waiting", "Waiting inputs.", labels=["queue"])
        waiting.add_metric(["text"], service.texts.batcher.waiting)
        waiting.add_metric(["image"], service.images.batcher.waiting)
        yield waiting
        yield CounterMetricFamily("tuwen_texts_remembered", "Texts found in the cache.", value=service.texts.cached)


def route_of(scope: Scope) -> str:
    """The pattern of a request's route, which contains nothing of the query."""
    return str(getattr(scope.get("route"), "path", "") or "none")


class JsonLines(logging.Formatter):
    """Formats log records as JSON, one per line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1]:
            document["trace"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(document)


def write_logs(level: Log) -> None:
    """Send the logs of the service and of uvicorn to standard error, for programs that control the whole process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for logger in (LOGGER, logging.getLogger("uvicorn.error")):
        logger.handlers[:] = [handler] if level != "none" else [logging.NullHandler()]
        logger.propagate = False
        logger.setLevel(logging.WARNING if level == "errors" else logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
