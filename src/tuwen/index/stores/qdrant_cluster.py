"""The Qdrant cluster store: rows in a collection on a server.

Several processes may write and search at once: there is no lock, and the last write to a row wins. A write returns
once enough replicas have applied it (see `write_consistency_factor`); durability is the cluster's.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tuwen.index.filters import FIELDS, And, Compare, Condition, Near, Not, OneOf, Or
from tuwen.index.store import Known, Stored, Vector, known_ids, row_id
from tuwen.index.stores.qdrant_collection import Link
from tuwen.index.stores.qdrant_edge import from_stored, rounded, to_stored
from tuwen.index.stores.qdrant_edge_shard import PLACE_FIELD
from tuwen.types import Hit, Payload, Row

if TYPE_CHECKING:
    from qdrant_client.models import FieldCondition, Filter, Record

_BOUNDS = {"<": ("lt",), "<=": ("lte",), ">": ("gt",), ">=": ("gte",), "==": ("gte", "lte")}


def compiled(condition: Condition) -> "Filter":  # noqa: PLR0911  (one for each kind)
    """A condition as a cluster takes it."""
    from qdrant_client import models

    match condition:
        case And(parts):
            return models.Filter(must=[compiled(part) for part in parts])
        case Or(parts):
            return models.Filter(should=[compiled(part) for part in parts])
        case Not(part):
            return models.Filter(must_not=[compiled(part)])
        case Compare(field):
            return models.Filter(must=[_text(condition) if FIELDS[field] is str else _number(condition)])
        case OneOf(field, values) if values and FIELDS[field] is not str:
            return models.Filter(should=[_number(Compare(field, "==", value)) for value in values])
        case OneOf(field, values):
            among = models.MatchAny(any=[str(value) for value in values])
            return models.Filter(must=[models.FieldCondition(key=field, match=among)])
        case Near(latitude, longitude, metres):
            circle = models.GeoRadius(center=models.GeoPoint(lon=longitude, lat=latitude), radius=metres)
            return models.Filter(must=[models.FieldCondition(key=PLACE_FIELD, geo_radius=circle)])


def _text(condition: Compare) -> "FieldCondition":
    from qdrant_client import models

    value = str(condition.value)
    match condition.operator:
        case "startswith":
            return models.FieldCondition(key=condition.field, match=models.MatchPrefix(prefix=value))
        case "contains":
            return models.FieldCondition(key=condition.field, match=models.MatchSubstring(substring=value))
        case _:
            return models.FieldCondition(key=condition.field, match=models.MatchValue(value=value))


def _number(condition: Compare) -> "FieldCondition":
    """A comparison as a range, because `==` on floats is not supported. 15 digits are compared, see `to_stored`."""
    from qdrant_client import models

    value = float(condition.value)
    bound = rounded(value) if FIELDS[condition.field] is float else value
    bounds = dict.fromkeys(_BOUNDS[condition.operator], bound)
    return models.FieldCondition(key=condition.field, range=models.Range(**bounds))


PAGE = 500
"""rows read or written in one call: with vectors of 512 numbers, 3 MB"""
EF, OVERSAMPLING = 288, 2.0
"""HNSW's ef, and how many times k rows found by int8 are compared exactly"""
T = TypeVar("T")


class ClusterStore:
    """A `Store` on a Qdrant cluster."""

    def __init__(self, link: Link, *, flat: bool) -> None:
        self._link = link
        self._flat = flat

    @property
    def rows(self) -> int:  # noqa: D102
        return self.count(None)

    @property
    def searched(self) -> str:  # noqa: D102
        return "flat" if self._flat else "hnsw"

    def upsert(self, rows: Sequence[Row]) -> None:  # noqa: D102
        from qdrant_client import models

        for page in _pages(rows):
            points = [
                models.PointStruct(id=str(row_id(row.key)), vector=row.vector.tolist(), payload=to_stored(row.payload))
                for row in page
            ]
            self._link("upsert", points=points, wait=True)

    def remove(self, keys: Sequence[str]) -> int:  # noqa: D102
        removed = 0
        for page in _pages([str(row_id(key)) for key in dict.fromkeys(keys)]):
            there = [record.id for record in self._link("retrieve", ids=page, with_payload=False)]
            if there:
                self._link("delete", points_selector=there, wait=True)
            removed += len(there)
        return removed

    def payloads(self, keys: Sequence[str]) -> dict[str, Payload]:  # noqa: D102
        records = self._fetched([str(row_id(key)) for key in dict.fromkeys(keys)])
        found = [from_stored(record.payload) for record in records]
        return {str(payload["path"]): payload for payload in found}

    def get(self, ids: Sequence[str]) -> dict[str, Stored]:  # noqa: D102
        records = self._fetched([str(it) for it in known_ids(ids)])
        return {str(it.id): Stored(str(it.id), from_stored(it.payload)) for it in records}

    def vectors(self, ids: Sequence[str]) -> dict[str, Vector]:  # noqa: D102
        records = self._fetched([str(it) for it in known_ids(ids)], vectors=True)
        return {str(it.id): _vector(it) for it in records}

    def set_payloads(self, payloads: Mapping[str, Payload]) -> None:  # noqa: D102
        from qdrant_client import models

        for page in _pages(list(payloads.items())):
            changes = [
                models.OverwritePayloadOperation(
                    overwrite_payload=models.SetPayload(payload=to_stored(payload), points=[str(row_id(key))])
                )
                for key, payload in page
            ]
            self._link("batch_update_points", update_operations=changes, wait=True)

    def known(self, contents: Sequence[str]) -> dict[str, Known]:
        """Find one row for each content, which may have many; each request returns at most one row per content."""
        found: dict[str, Known] = {}
        for page in _pages(list(dict.fromkeys(contents))):
            missing = page
            while missing:
                rows = self._some_of(missing)
                found.update((str(row.payload["content"]), row) for row in rows)
                missing = [it for it in missing if it not in found] if len(rows) == len(missing) else []
        return found

    def count(self, where: Condition | None) -> int:  # noqa: D102
        chosen = None if where is None else compiled(where)
        return int(self._link("count", count_filter=chosen, exact=True).count)

    def keys(self, where: Condition | None) -> list[str]:  # noqa: D102
        return sorted(self._keys(where))

    def values(self, field: str) -> dict[str, int]:  # noqa: D102
        hits = self._link("facet", key=field, limit=max(1, self.rows), exact=True).hits
        return {str(hit.value): int(hit.count) for hit in hits if hit.count}

    def bounds(self, field: str) -> tuple[float, float] | None:  # noqa: D102
        return _bounds(self._link, field)

    def scan(self, where: Condition | None) -> Iterator[Stored]:
        """Iterate over rows: first all keys, then the rows page by page."""
        for page in _pages(self.keys(where)):
            ids = [str(row_id(key)) for key in page]
            stored = self.get(ids)
            yield from (stored[it] for it in ids if it in stored)

    def search(self, vector: Vector, k: int, where: Condition | None, *, exact: bool) -> list[Hit]:
        """Search; scores are computed from the stored float32 vectors."""
        from qdrant_client import models

        params = models.SearchParams(
            hnsw_ef=max(EF, 2 * k),
            exact=exact or self._flat,
            quantization=models.QuantizationSearchParams(
                ignore=exact or self._flat, rescore=True, oversampling=OVERSAMPLING
            ),
            acorn=models.AcornSearchParams(enable=where is not None, max_selectivity=1.0),
        )
        chosen = None if where is None else compiled(where)
        found = self._link(
            "query_points", query=vector.tolist(), query_filter=chosen, search_params=params, limit=k
        ).points
        hits = [Hit(str(it.id), min(1.0, max(-1.0, it.score)), from_stored(it.payload)) for it in found]
        return sorted(hits, key=lambda hit: (-hit.score, hit.payload["path"]))

    def optimize(self, quantize_above: int) -> None:
        """Turn on int8 vectors once there are enough rows. The cluster builds its graph by itself."""
        from qdrant_client import models

        config = self._link("get_collection").config
        if self._flat or config.quantization_config is not None or self.rows <= quantize_above:
            return
        scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        self._link("update_collection", quantization_config=models.ScalarQuantization(scalar=scalar))

    def close(self) -> None:  # noqa: D102
        self._link.close()

    def _fetched(self, ids: Sequence[str], *, vectors: bool = False) -> "Iterator[Record]":
        for page in _pages(ids):
            yield from self._link("retrieve", ids=page, with_payload=not vectors, with_vectors=vectors)

    def _some_of(self, contents: Sequence[str]) -> list[Known]:
        from qdrant_client import models

        among = models.FieldCondition(key="content", match=models.MatchAny(any=list(contents)))
        words: dict[str, Any] = {"scroll_filter": models.Filter(must=[among]), "limit": len(contents)}
        records, _ = self._link("scroll", with_payload=True, with_vectors=True, **words)
        return [Known(from_stored(it.payload), _vector(it)) for it in records]

    def _keys(self, where: Condition | None) -> Iterator[str]:
        chosen = None if where is None else compiled(where)
        following = None
        while True:
            words = {"scroll_filter": chosen, "limit": PAGE, "offset": following}
            records, following = self._link("scroll", with_payload=["path"], **words)
            yield from (str(record.payload["path"]) for record in records)
            if following is None:
                return


def _bounds(link: Link, field: str) -> tuple[float, float] | None:
    from qdrant_client import models

    ends = []
    for direction in (models.Direction.ASC, models.Direction.DESC):
        order = models.OrderBy(key=field, direction=direction)
        ends += link("scroll", order_by=order, limit=1, with_payload=True)[0]
    if len(ends) < 2:
        return None
    least, greatest = (from_stored(record.payload)[field] for record in ends)
    return float(least), float(greatest)


def _vector(record: "Record") -> Vector:
    return np.array(record.vector, dtype=np.float32)


def _pages(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), PAGE):
        yield items[start : start + PAGE]
