"""A collection as an index: how it is set up, and what its metadata says that it is.

The manifest stands in the collection's own metadata, and is written last: a collection that has none is no index,
or one whose making was interrupted. Beside it stand the thresholds that were measured. Knows collections. Does not
know rows.
"""

from typing import Any

from pydantic import ValidationError

from tuwen.errors import IndexInvalid, IndexNotFound, InvalidInput
from tuwen.index.calibration import Calibration, parse_calibration
from tuwen.index.cluster_link import Link
from tuwen.index.conditions import FIELDS
from tuwen.index.manifest import Manifest
from tuwen.index.place import Cluster
from tuwen.index.qdrant_shard import CANDIDATES, LINKS

ENTRY, CALIBRATION = "tuwen", "tuwen-calibration"
"""what the manifest and the thresholds are called in the metadata; writing one leaves the other"""


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
    entry = _metadata(link).get(ENTRY)
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


def read_calibration(link: Link, place: Cluster, fingerprint: str) -> Calibration | None:
    """What was measured on it with this model; None if nothing was.

    Raises:
        IndexInvalid: it is not one that this version reads.
    """
    entry = _metadata(link).get(CALIBRATION)
    return None if entry is None else parse_calibration(entry, f"{place}, thresholds", fingerprint)


def write_calibration(link: Link, calibration: Calibration) -> None:
    """Say what was measured."""
    link("update_collection", metadata={CALIBRATION: calibration.model_dump_json()})


def _metadata(link: Link) -> dict[str, str]:
    return dict(link("get_collection").config.metadata or {})


def _payload_index(kind: type) -> Any:  # noqa: ANN401
    from qdrant_client import models

    if kind is str:
        return models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, prefix=True, on_disk=True)
    if kind is int:
        return models.IntegerIndexParams(
            type=models.IntegerIndexType.INTEGER, lookup=False, range=True, on_disk=True
        )
    return models.FloatIndexParams(type=models.FloatIndexType.FLOAT, on_disk=True)
