"""What a service counts, for Prometheus. Each application has a registry of its own; nothing global is touched."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from tuwen import __version__

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

    def watch(self, service: "Service") -> None:
        """Look at a service whenever somebody asks."""
        service.texts.batcher.sizes = self._batches.labels("text").observe
        service.pictures.batcher.sizes = self._batches.labels("image").observe
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
