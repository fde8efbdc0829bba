"""A collection as an index: how it is set up, and what its metadata says that it is.

The manifest stands in the collection's own metadata, and is written last: a collection that has none is no index,
or one whose making was interrupted. Knows collections. Does not know rows.
"""

from typing import Any

from pydantic import ValidationError

from tuwen.errors import IndexInvalid, IndexNotFound, InvalidInput
from tuwen.index.cluster_link import Link
from tuwen.index.conditions import FIELDS
from tuwen.index.manifest import Manifest
from tuwen.index.place import Cluster
from tuwen.index.qdrant_shard import CANDIDATES, LINKS

ENTRY = "tuwen"
"""what the manifest is called in the metadata"""


def create(link: Link, place: Cluster, manifest: Manifest) -> None:
    """Make an empty collection with its payload indexes.

    Raises:
        InvalidInput: there is a collection of that name.
    """
    from qdrant_client import models

    if link("collection_exists"):
        raise InvalidInput(f"{place} exists already: open it, or choose another name")
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
    for field, kind in FIELDS.items():
        link("create_payload_index", field_name=field, field_schema=_payload_index(kind), wait=True)
    write(link, manifest)


def read(link: Link, place: Cluster) -> Manifest:
    """What an index is.

    Raises:
        IndexNotFound: there is no such collection.
        IndexInvalid: it is not one that this version reads.
    """
    if not link("collection_exists"):
        raise IndexNotFound(
            f"there is no index at {place}: make one with tuwen index build PHOTOS/ --index {place}"
        )
    entry = (link("get_collection").config.metadata or {}).get(ENTRY)
    if entry is None:
        raise IndexInvalid(
            f"{place} is a collection, but no index, or one whose making was interrupted: choose another name, or "
            "remove the collection"
        )
    try:
        return Manifest.model_validate_json(entry)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise IndexInvalid(f"{place}: {field}: {first['msg']}; this version of tuwen does not read it") from error


def write(link: Link, manifest: Manifest) -> None:
    """Say what an index is."""
    link("update_collection", metadata={ENTRY: manifest.model_dump_json()})


def _payload_index(kind: type) -> Any:  # noqa: ANN401
    from qdrant_client import models

    if kind is str:
        return models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, prefix=True, on_disk=True)
    if kind is int:
        return models.IntegerIndexParams(
            type=models.IntegerIndexType.INTEGER, lookup=False, range=True, on_disk=True
        )
    return models.FloatIndexParams(type=models.FloatIndexType.FLOAT, on_disk=True)
