"""What is a cluster's own: the line to it, tried again; what a new collection is told; what becomes of faults."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from making import FakeModel, rows

from local_cluster import LOCAL_MODE_SAYS, local_cluster
from tuwen.errors import IndexFault, IndexInvalid, IndexNotFound, InvalidInput, MissingExtra
from tuwen.index.index import VectorIndex
from tuwen.index.location import Cluster
from tuwen.index.stores.qdrant_collection import Link, connect

pytestmark = [pytest.mark.filterwarnings(f"ignore:{said}") for said in LOCAL_MODE_SAYS]
WAITS = (0.01, 0.01, 0.01)
EXISTS = {"result": {"exists": True}, "status": "ok", "time": 0.0}


@contextmanager
def answering(statuses: Sequence[int]) -> Iterator[tuple[Cluster, list[dict[str, str]]]]:
    """A server that answers each request with the next status, and the headers that it was sent."""
    seen: list[dict[str, str]] = []
    left = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            status = left.pop(0)
            body = json.dumps(EXISTS if status == 200 else {"status": {"error": "not now"}}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 429:
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Cluster("127.0.0.1", server.server_port, "photos", key="secret"), seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def asked(place: Cluster) -> bool:
    link = Link(place, waits=WAITS)
    try:
        return bool(link("collection_exists"))
    finally:
        link.close()


@pytest.mark.parametrize("statuses", [(200,), (503, 200), (500, 429, 502, 200)])
def test_what_may_pass_is_tried_again(statuses: Sequence[int]) -> None:
    with answering(statuses) as (place, seen):
        assert asked(place)
    assert len(seen) == len(statuses)
    assert {headers["api-key"] for headers in seen} == {"secret"}


@pytest.mark.parametrize(("status", "requests"), [(401, 1), (400, 1), (503, 4)])
def test_a_lasting_fault_is_one_line(status: int, requests: int) -> None:
    with answering([status] * 4) as (place, seen):
        with pytest.raises(IndexFault) as caught:
            asked(place)
        assert len(seen) == requests
    assert (caught.value.value, caught.value.where) == (status, place)
    assert ("TUWEN_QDRANT_KEY" in caught.value.hint) == (status == 401)
    assert str(place) in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nobody_there_is_one_line() -> None:
    with answering([]) as (place, _):
        pass
    with pytest.raises(IndexFault) as caught:
        asked(place)
    assert caught.value.where == place


def test_tls_is_for_qdrants() -> None:
    for tls in (False, True):
        client = connect(Cluster("host", 6333, "x", tls=tls))
        assert client._client.rest_uri == f"http{'s' if tls else ''}://host:6333"  # what it would connect to
        client.close()


class Recording:
    """The local mode, and what it was called with."""

    def __init__(self, client: object) -> None:
        self._client = client
        self.calls: dict[str, dict] = {}

    def __getattr__(self, name: str) -> object:
        def called(*words: object, **named: object) -> object:
            self.calls[name] = named
            return getattr(self._client, name)(*words, **named)

        return called


def test_a_new_collection_is_told_its_shards_and_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from tuwen.index.stores import qdrant_collection as cluster_link

    with local_cluster(monkeypatch) as cluster:
        client = Recording(cluster_link.connect(cluster))
        monkeypatch.setattr("tuwen.index.stores.qdrant_collection.connect", lambda place: client)
        with VectorIndex.create(replace(cluster, shards=6, replicas=3), encoder=FakeModel(), kind="flat") as index:
            assert (index.folder, index.info().bytes, index.info().store) == (None, None, "qdrant")
            index.upsert(rows(3))
        told = client.calls["create_collection"]
        assert (told["shard_number"], told["replication_factor"], told["write_consistency_factor"]) == (6, 3, 2)
        assert told["hnsw_config"].m == 0, "flat has no graph"


def test_int8_is_asked_for_once_there_are_rows_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    from tuwen.index.stores import qdrant_collection as cluster_link

    with local_cluster(monkeypatch) as cluster:
        client = Recording(cluster_link.connect(cluster))
        monkeypatch.setattr("tuwen.index.stores.qdrant_collection.connect", lambda place: client)
        with VectorIndex.create(cluster, encoder=FakeModel(), quantize_above=5) as index:
            index.upsert(rows(5))
            index.optimize()
            assert "quantization_config" not in client.calls["update_collection"]
            index.upsert(rows(6))
            index.optimize()
            assert client.calls["update_collection"]["quantization_config"].scalar.always_ram


def test_what_is_no_index_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from qdrant_client import models

    from tuwen.index.stores import qdrant_collection as cluster_link

    with local_cluster(monkeypatch) as cluster:
        with pytest.raises(IndexNotFound) as missing:
            VectorIndex.open(cluster, encoder=FakeModel())
        assert missing.value.value == "qdrant://local:6333/photos"
        assert "tuwen index build" in missing.value.hint
        with pytest.raises(InvalidInput) as kind:
            VectorIndex.create(cluster, encoder=FakeModel(), kind="ivf")
        assert kind.value.where == "kind"
        with pytest.raises(InvalidInput) as store:
            VectorIndex.create(cluster, encoder=FakeModel(), store="faiss")
        assert store.value.value == "faiss"
        client = cluster_link.connect(cluster)
        client.create_collection("photos", models.VectorParams(size=24, distance=models.Distance.DOT))
        with pytest.raises(IndexInvalid) as other:
            VectorIndex.open(cluster, encoder=FakeModel())
        assert (other.value.value, other.value.where) == (None, cluster)
        client.update_collection("photos", metadata={"tuwen": '{"format": 9}'})
        with pytest.raises(IndexInvalid) as newer:
            VectorIndex.open(cluster, encoder=FakeModel())
        assert newer.value.value == "format"


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("tuwen.errors.import_module", missing)
    with pytest.raises(MissingExtra) as caught:
        VectorIndex.open("qdrant://127.0.0.1:6333/photos", encoder=None)
    assert caught.value.extra == "cluster"
