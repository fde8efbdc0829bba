"""A collection of a Qdrant cluster as an index: the connection, the collection's settings, its manifest.

The manifest is in the collection's metadata and is written last, so a collection without one is not an index, or its
creation was interrupted. Measured thresholds are stored beside it.
"""

import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tuwen.errors import IndexFault, IndexInvalid, IndexNotFound, InvalidInput, require
from tuwen.index.calibration import Calibration, parse_calibration
from tuwen.index.filters import FIELDS, SCANNED
from tuwen.index.location import Cluster
from tuwen.index.manifest import Manifest
from tuwen.index.stores.qdrant_edge_shard import CANDIDATES, LINKS, PLACE_FIELD

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

WAITS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""average seconds before each further attempt: six in total, enough for a restart"""
TIMEOUT = 60
"""seconds until a call without a response fails"""


class Link:
    """A client of one collection. `link("upsert", points=…)` is `client.upsert(collection, points=…)`."""

    def __init__(self, place: Cluster, client: "QdrantClient | None" = None, waits: Sequence[float] = WAITS) -> None:
        self._place = place
        self._client = client or connect(place)
        self._waits = waits

    def __call__(self, method: str, **words: Any) -> Any:  # noqa: ANN401
        """Call a method of the client.

        Raises:
            IndexNotFound: the collection is gone.
            IndexFault: the call failed, or the cluster could not be reached in all attempts.
        """
        for wait in (*self._waits, None):
            try:
                return getattr(self._client, method)(self._place.name, **words)
            except Exception as error:
                if wait is None or not _may_pass(error):
                    raise self._fault(error) from error
            time.sleep(wait * random.uniform(0.5, 1.5))
        raise AssertionError

    def close(self) -> None:
        """Close the connection. May be called twice."""
        self._client.close()

    def _fault(self, error: Exception) -> IndexFault:
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            hint = "set TUWEN_QDRANT_KEY to a key with the necessary permissions"
            return IndexFault(f"{self._place} refuses the key: {hint}", value=status, where=self._place, hint=hint)
        if status == 404:
            return IndexNotFound(f"{self._place}: the collection is gone", value=status, where=self._place)
        source = getattr(error, "source", None) or getattr(error, "reason_phrase", None) or error
        reason = " ".join(f"{source}".split()) or type(error).__name__
        attempts = f" after {len(self._waits) + 1} attempts" if _may_pass(error) else ""
        return IndexFault(
            f"a request to {self._place} failed{attempts}: {reason}", value=status or reason, where=self._place
        )


def connect(place: Cluster) -> "QdrantClient":
    """Create a client for the cluster.

    Raises:
        MissingExtra: the package is not installed.
    """
    client = require("qdrant_client", extra="cluster").QdrantClient
    headers = {"api-key": place.key} if place.key else None  # `api_key` would cause a warning without TLS
    made: QdrantClient = client(
        host=place.host,
        port=place.port,
        https=place.tls,
        headers=headers,
        timeout=TIMEOUT,
        check_compatibility=False,
    )
    return made


def _may_pass(error: Exception) -> bool:
    """Whether another attempt may succeed: no connection, too busy, or a fault inside the cluster."""
    from pydantic import ValidationError
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    if isinstance(error, UnexpectedResponse):
        return error.status_code == 429 or (error.status_code or 0) >= 500
    if isinstance(error, ResponseHandlingException):
        return not isinstance(error.source, ValidationError)
    return isinstance(error, ResourceExhaustedResponse)


ENTRY, CALIBRATION = "tuwen", "tuwen-calibration"
"""metadata keys of the manifest and of the thresholds, which are written separately"""


def create(link: Link, place: Cluster, manifest: Manifest) -> None:
    """Create an empty collection with its payload indexes.

    Raises:
        InvalidInput: there is already a collection of that name.
    """
    from qdrant_client import models

    if link("collection_exists"):
        raise InvalidInput(f"{place} already exists; open it, or choose another name", where=place)
    replicas = {} if place.replicas is None else {"write_consistency_factor": place.replicas // 2 + 1}
    graph = models.HnswConfigDiff(m=0 if manifest.kind == "flat" else LINKS, ef_construct=CANDIDATES)
    link(
        "create_collection",
        vectors_config=models.VectorParams(size=manifest.dim, distance=models.Distance.DOT, on_disk=True),
        hnsw_config=graph,
        on_disk_payload=True,
        shard_number=place.shards,
        replication_factor=place.replicas,
        **replicas,
    )
    index_fields(link)
    write(link, manifest)


def index_fields(link: Link) -> None:
    """Create the payload indexes that are missing: all of a new collection, those of newer fields of an older one."""
    there = link("get_collection").payload_schema
    for field in (*FIELDS, PLACE_FIELD):
        if field not in (*SCANNED, *there):
            schema = _payload_index(FIELDS.get(field))
            link("create_payload_index", field_name=field, field_schema=schema, wait=True)


def read(link: Link, place: Cluster) -> Manifest:
    """Read the manifest of an index.

    Raises:
        IndexNotFound: there is no such collection.
        IndexInvalid: this version cannot read it.
    """
    if not link("collection_exists"):
        hint = f"build one with tuwen index build PHOTOS/ --index {place}"
        raise IndexNotFound(f"there is no index at {place}: {hint}", value=str(place), hint=hint)
    entry = _metadata(link).get(ENTRY)
    if entry is None:
        hint = "choose another name, or remove the collection"
        raise IndexInvalid(
            f"the collection {place} is not an index, or its creation was interrupted: {hint}", where=place, hint=hint
        )
    try:
        return Manifest.model_validate_json(entry)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise IndexInvalid(
            f"{place}: {field}: {first['msg']}; this version of tuwen cannot read it", value=field, where=place
        ) from error


def write(link: Link, manifest: Manifest) -> None:
    """Write the manifest of an index."""
    link("update_collection", metadata={ENTRY: manifest.model_dump_json()})


def read_calibration(link: Link, place: Cluster, fingerprint: str) -> Calibration | None:
    """Read the thresholds measured on an index with this model; None if there are none.

    Raises:
        IndexInvalid: this version cannot read them.
    """
    entry = _metadata(link).get(CALIBRATION)
    return None if entry is None else parse_calibration(entry, f"{place}, thresholds", fingerprint)


def write_calibration(link: Link, calibration: Calibration) -> None:
    """Write measured thresholds."""
    link("update_collection", metadata={CALIBRATION: calibration.model_dump_json()})


def _metadata(link: Link) -> dict[str, str]:
    return dict(link("get_collection").config.metadata or {})


def _payload_index(kind: type | None) -> Any:  # noqa: ANN401
    """The index of a field of texts or numbers; None: of places."""
    from qdrant_client import models

    if kind is None:
        return models.GeoIndexParams(type=models.GeoIndexType.GEO, on_disk=True)
    if kind is str:
        return models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, prefix=True, on_disk=True)
    if kind is int:
        return models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=False, range=True, on_disk=True)
    return models.FloatIndexParams(type=models.FloatIndexType.FLOAT, on_disk=True)
