"""The places that an index can be in, each made and opened as callers do: what the conformance suite runs over."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest
from making import FakeModel

from tuwen.index.index import VectorIndex
from tuwen.index.location import Cluster, Location, parse_location
from tuwen.index.store import design

DESIGNS: Mapping[str, Mapping[str, str]] = {
    "edge-hnsw": {"kind": "hnsw"},
    "edge-flat": {"kind": "flat"},
    "faiss-hnsw": {"kind": "hnsw", "store": "faiss", "metric": "l2"},
    "faiss-flat": {"kind": "flat", "store": "faiss"},
    "faiss-ivf": {"kind": "ivf"},
    "cluster": {},
}


@dataclass(frozen=True)
class Backend:
    """Where one test's index is, and what it is made as."""

    name: str
    place: Location

    def create(self, model: FakeModel | None = None, **words) -> VectorIndex:
        return VectorIndex.create(self.place, encoder=model or FakeModel(), **DESIGNS[self.name], **words)

    def open(self, model: FakeModel | None = None, **words) -> VectorIndex:
        return VectorIndex.open(self.place, encoder=model or FakeModel(), **words)

    def kind(self) -> str:
        return design(**DESIGNS[self.name]).kind


SERVER = "TUWEN_TEST_QDRANT"
"""the environment variable with the URL of a real cluster, such as qdrant://127.0.0.1:6333"""


@contextmanager
def real_cluster() -> Iterator[Cluster]:
    """A collection of its own in the cluster that the environment names, removed afterwards."""
    from tuwen.index.stores.qdrant_collection import connect

    if SERVER not in os.environ:
        pytest.skip(f"set {SERVER} to the URL of a Qdrant cluster, e.g. qdrant://127.0.0.1:6333")
    place = parse_location(f"{os.environ[SERVER].rstrip('/')}/tuwen-{uuid4().hex}", os.environ.get(f"{SERVER}_KEY"))
    assert isinstance(place, Cluster)
    try:
        yield place
    finally:
        client = connect(place)
        client.delete_collection(place.name)
        client.close()
