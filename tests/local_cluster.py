"""A cluster without a server: qdrant-client's local mode."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tuwen.index.location import Cluster

LOCAL_MODE_SAYS = ("Payload indexes have no effect in the local", "Local mode performs exact")
"""warnings of qdrant-client's local mode, which does without what a cluster is told to build"""


@contextmanager
def local_cluster(monkeypatch: pytest.MonkeyPatch, name: str = "photos") -> Iterator[Cluster]:
    """A place whose client is qdrant-client's local mode: one memory for all that connect, as a cluster has."""
    from qdrant_client import QdrantClient

    class Staying(QdrantClient):
        def close(self, *_: object, **__: object) -> None:
            """What is in memory would be lost."""

    client = Staying(":memory:")
    monkeypatch.setattr("tuwen.index.stores.qdrant_collection.connect", lambda place: client)
    yield Cluster("local", 6333, name)
    QdrantClient.close(client)
