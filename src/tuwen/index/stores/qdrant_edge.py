"""The Qdrant Edge store: rows in a shard in this process, on disk, durable.

Properties of version 0.9.0, found by experiment (docs/log.md): an update is in the write-ahead log at once and is
replayed after a kill; `flush` writes it to disk. Nothing is optimised in the background. Every call holds the
interpreter lock, so calls from several threads are safe but never parallel. With a filter, a graph search misses rows
unless ACORN is on.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tuwen.index.filters import FIELDS, And, Compare, Condition, Near, Not, OneOf, Or, is_place
from tuwen.index.store import Known, Stored, Vector, known_ids, row_id
from tuwen.index.stores import hnsw_ef
from tuwen.index.stores import qdrant_edge_shard as qdrant_shard
from tuwen.index.stores.qdrant_edge_shard import GRAPH_ABOVE, PLACE_FIELD, Shard, build
from tuwen.types import Hit, Payload, Row

if TYPE_CHECKING:
    from qdrant_edge import EdgeShard, FieldCondition, Filter, PointId, Record, ScoredPoint

SAMPLE = 64
"""number of rows from which the common direction is estimated"""


class SearchEf:
    """Chooses HNSW's ef for the searches of a shard; for one thread at a time."""

    def __init__(self) -> None:
        self._centre: Vector | None = None
        self._rows = 0

    def ef(self, shard: "EdgeShard", rows: int, query: Vector, limit: int, *, filtered: bool) -> int:
        """The ef of a search in `rows` rows. Their common direction is estimated again when their number doubles."""
        import qdrant_edge as edge

        if rows > 2 * self._rows:
            records, _ = shard.scroll(edge.ScrollRequest(limit=SAMPLE, with_payload=False, with_vector=True))
            self._centre = hnsw_ef.centre_of(np.array([it.vector for it in records], dtype=np.float32))
            self._rows = rows
        return hnsw_ef.ef_for(rows, limit, among=not filtered and hnsw_ef.is_among(query, self._centre))


_EXACT = "_exact"


def to_stored(payload: Payload) -> dict[str, Any]:
    """Convert a payload for a shard.

    A shard stores floats as decimals, and changes the last bit of one in seven. Floats of up to 15 digits are
    preserved; filters use those (microseconds, for current times). Longer ones are also stored as hexadecimal text.
    """
    stored: dict[str, Any] = dict(payload)
    exact = {}
    for name, value in payload.items():
        if isinstance(value, float):
            stored[name] = short = rounded(value)
            if short != value or not (value == 0 or 1e-6 <= abs(value) < 1e15):
                exact[name] = value.hex()
    if exact:
        stored[_EXACT] = exact
    if place := _place(payload):
        stored[PLACE_FIELD] = place
    return stored


def _place(payload: Payload) -> dict[str, float] | None:
    latitude, longitude = payload.get("latitude"), payload.get("longitude")
    if isinstance(latitude, str | None) or isinstance(longitude, str | None):
        return None
    return {"lat": latitude, "lon": longitude} if is_place(latitude, longitude) else None


def from_stored(stored: Mapping[str, Any] | None) -> Payload:
    """The inverse of `to_stored`. Rows of before there were texts have no type: they are pictures."""
    payload = {"type": "image", **(stored or {})}
    payload.pop(PLACE_FIELD, None)
    for name, value in payload.pop(_EXACT, {}).items():
        payload[name] = float.fromhex(value)
    return payload


def rounded(value: float) -> float:
    """Round a float to 15 digits, as filters use it; the very largest floats cannot be rounded up."""
    short = float(f"{value:.15g}")
    return short if math.isfinite(short) else value


_BOUNDS = {"<": ("lt",), "<=": ("lte",), ">": ("gt",), ">=": ("gte",), "==": ("gte", "lte")}


def compiled(condition: Condition) -> "Filter":
    """A condition as the store takes it."""
    import qdrant_edge as edge

    match condition:
        case And(parts):
            return edge.Filter(must=[compiled(part) for part in parts])
        case Or(parts):
            return edge.Filter(should=[compiled(part) for part in parts])
        case Not(part):
            return edge.Filter(must_not=[compiled(part)])
        case Compare(field):
            return edge.Filter(must=[_text(condition) if FIELDS[field] is str else _number(condition)])
        case OneOf(field, values):
            return _one_of(field, values)
        case Near(latitude, longitude, metres):
            circle = edge.GeoRadius(edge.GeoPoint(longitude, latitude), metres)
            return edge.Filter(must=[edge.FieldCondition(PLACE_FIELD, geo_radius=circle)])


def _one_of(field: str, values: Sequence[str | int | float]) -> "Filter":
    import qdrant_edge as edge

    if values and FIELDS[field] is not str:
        return edge.Filter(should=[_number(Compare(field, "==", value)) for value in values])
    return edge.Filter(must=[edge.FieldCondition(field, match=edge.MatchAny([str(value) for value in values]))])


def _text(condition: Compare) -> "FieldCondition":
    import qdrant_edge as edge

    value = str(condition.value)
    match condition.operator:
        case "startswith":
            return edge.FieldCondition(condition.field, match=edge.MatchPrefix(value))
        case "contains":
            return edge.FieldCondition(condition.field, match=edge.MatchSubstring(value))
        case _:
            return edge.FieldCondition(condition.field, match=edge.MatchValue(value))


def _number(condition: Compare) -> "FieldCondition":
    """A comparison as a range, because `==` on floats is not supported. 15 digits are compared, see `to_stored`."""
    import qdrant_edge as edge

    value = float(condition.value)
    bound = rounded(value) if FIELDS[condition.field] is float else value
    return edge.FieldCondition(
        condition.field, range=edge.RangeFloat(**dict.fromkeys(_BOUNDS[condition.operator], bound))
    )


def count_rows(shard: Shard, where: Condition | None) -> int:
    """The number of rows that match a condition, see `Store`."""
    import qdrant_edge as edge

    request = edge.CountRequest(exact=True, filter=None if where is None else compiled(where))
    with shard.calling() as it:
        return it.count(request)


def count_values(shard: Shard, field: str, rows: int) -> dict[str, int]:
    """The values of a text field with the number of their rows, see `Store`; `rows` is the total number of rows."""
    import qdrant_edge as edge

    request = edge.FacetRequest(field, limit=max(1, rows), exact=True)
    with shard.calling() as it:
        hits = it.facet(request).hits
    return {str(hit.value): hit.count for hit in hits if hit.count}  # removed values have a count of 0


def field_bounds(shard: Shard, field: str) -> tuple[float, float] | None:
    """The smallest and the largest number in a field, see `Store`."""
    import qdrant_edge as edge

    ends = []
    for direction in (edge.Direction.Asc, edge.Direction.Desc):
        order = edge.OrderBy(field, direction=direction)
        with shard.calling() as it:
            ends += it.scroll(edge.ScrollRequest(limit=1, with_payload=True, order_by=order))[0]
    if len(ends) < 2:
        return None
    least, greatest = (from_stored(record.payload)[field] for record in ends)
    return float(least), float(greatest)


PAGE = 1_000
"""rows read in one call"""
WRITTEN = 4_096
"""rows written in one call: more are no faster, and a call holds the interpreter lock"""
OVERSAMPLING = 2.0
"""this number times k candidates found with int8 are compared exactly"""
SCAN = 20_000
"""up to this number of rows that match a filter, rows are compared one by one; beyond, ACORN is faster"""

T = TypeVar("T")


class QdrantStore:
    """A `Store` on Qdrant Edge."""

    def __init__(self, folder: Path, dim: int, patience: float = 0.0, *, flat: bool = False) -> None:
        """Open a shard that `create` has made.

        Args:
            folder: the shard's folder.
            dim: the dimension of the vectors.
            patience: seconds to wait for a process that has the shard open.
            flat: never build a graph, compare with every row.

        Raises:
            IndexLocked: another process still has it open.
            IndexInvalid: the shard cannot be read.
        """
        self._dim = dim
        self._flat = flat
        self._shard = Shard(folder, patience)
        self._changed = 0
        self._search_ef = SearchEf()

    @staticmethod
    def create(folder: Path, dim: int, *, flat: bool = False) -> None:
        """Create an empty shard in a folder that does not exist yet."""
        qdrant_shard.create(folder, dim, flat=flat)

    @property
    def rows(self) -> int:  # noqa: D102
        import qdrant_edge as edge

        with self._shard.calling() as shard:
            return shard.count(edge.CountRequest(exact=True))

    @property
    def searched(self) -> str:  # noqa: D102
        return "flat" if self._flat else "hnsw"

    def upsert(self, rows: Sequence[Row]) -> None:
        """Write rows. A page is replayed as a whole or not at all, so no row is a mixture of two."""
        import qdrant_edge as edge

        with self._shard.calling() as shard:
            for page in _pages(rows, WRITTEN):
                points = [edge.Point(row_id(row.key), row.vector.tolist(), to_stored(row.payload)) for row in page]
                shard.update(edge.UpdateOperation.upsert_points(points))
            shard.flush()
            self._changed += len(rows)

    def remove(self, keys: Sequence[str]) -> int:  # noqa: D102
        import qdrant_edge as edge

        removed = 0
        with self._shard.calling() as shard:
            for page in _id_pages(keys):
                removed += len(shard.retrieve(page, with_payload=False, with_vector=False))
                shard.update(edge.UpdateOperation.delete_points(page))
            shard.flush()
            self._changed += removed
        return removed

    def payloads(self, keys: Sequence[str]) -> dict[str, Payload]:  # noqa: D102
        ids = [row_id(key) for key in dict.fromkeys(keys)]
        found = [from_stored(record.payload) for record in _fetched(self._shard, ids)]
        return {str(payload["path"]): payload for payload in found}

    def get(self, ids: Sequence[str]) -> dict[str, Stored]:  # noqa: D102
        records = _fetched(self._shard, known_ids(ids))
        return {str(it.id): Stored(str(it.id), from_stored(it.payload)) for it in records}

    def vectors(self, ids: Sequence[str]) -> dict[str, Vector]:  # noqa: D102
        records = _fetched(self._shard, known_ids(ids), vectors=True)
        return {str(it.id): np.array(it.vector, dtype=np.float32) for it in records}

    def set_payloads(self, payloads: Mapping[str, Payload]) -> None:  # noqa: D102
        import qdrant_edge as edge

        with self._shard.calling() as shard:
            for key, payload in payloads.items():
                shard.update(edge.UpdateOperation.overwrite_payload([row_id(key)], to_stored(payload)))
            shard.flush()

    def known(self, contents: Sequence[str]) -> dict[str, Known]:
        """Find one row for each content, which may have many; each request returns at most one row per content."""
        found: dict[str, Known] = {}
        for page in _pages(list(dict.fromkeys(contents))):
            missing = page
            while missing:
                rows = _some_of(self._shard, missing)
                found.update((str(row.payload["content"]), row) for row in rows)
                missing = [it for it in missing if it not in found] if len(rows) == len(missing) else []
        return found

    def count(self, where: Condition | None) -> int:  # noqa: D102
        return count_rows(self._shard, where)

    def keys(self, where: Condition | None) -> list[str]:  # noqa: D102
        return sorted(_keys(self._shard, where))

    def values(self, field: str) -> dict[str, int]:  # noqa: D102
        return count_values(self._shard, field, self.rows)

    def bounds(self, field: str) -> tuple[float, float] | None:  # noqa: D102
        return field_bounds(self._shard, field)

    def scan(self, where: Condition | None) -> Iterator[Stored]:
        """Iterate over rows: first all keys, then the rows page by page."""
        for page in _pages(self.keys(where)):
            ids = [row_id(key) for key in page]
            stored = {str(record.id): record.payload for record in _fetched(self._shard, ids)}
            yield from (Stored(it, from_stored(stored[it])) for it in map(str, ids) if it in stored)

    def search(self, vector: Vector, k: int, where: Condition | None, *, exact: bool) -> list[Hit]:
        """Search; scores are computed from the stored float32 vectors."""
        import qdrant_edge as edge

        exact = exact or self._flat
        chosen = None if where is None else compiled(where)
        with self._shard.calling() as shard:
            rows = shard.info().points_count
            if not rows:
                return []
            limit = min(k, rows)
            if chosen is not None and not exact:
                exact = shard.count(edge.CountRequest(exact=False, filter=chosen)) <= SCAN
            ef = None if exact else self._search_ef.ef(shard, rows, vector, limit, filtered=chosen is not None)
            points = _nearest(shard, vector, limit, chosen, ef=ef)
            if len(points) < limit and not exact:  # the graph does not lead to enough of them
                points = _nearest(shard, vector, limit, chosen, ef=None)
        hits = [Hit(str(it.id), min(1.0, max(-1.0, it.score)), from_stored(it.payload)) for it in points]
        return sorted(hits, key=lambda hit: (-hit.score, hit.payload["path"]))

    def optimize(self, quantize_above: int) -> None:
        """Optimise the shard. Slow work runs in another process, for which this store waits."""
        with self._shard.calling() as shard:
            rows = self.rows
            int8 = rows > quantize_above
            unbuilt = rows - shard.info().indexed_vectors_count
            due = unbuilt > GRAPH_ABOVE or self._changed > max(PAGE, rows // 100)
            if self._flat or (rows <= GRAPH_ABOVE and not int8):
                shard.optimize()
            elif due or (int8 and not self._shard.keeps_int8()):
                with self._shard.away() as folder:
                    build(folder, self._dim, int8=int8)
            self._changed = 0

    def close(self) -> None:  # noqa: D102
        self._shard.close()


def _some_of(shard: Shard, contents: list[str]) -> list[Known]:
    """Rows with one of these contents, at most as many as there are contents."""
    import qdrant_edge as edge

    wanted = edge.Filter(must=[edge.FieldCondition("content", match=edge.MatchAny(contents))])
    request = edge.ScrollRequest(limit=len(contents), filter=wanted, with_payload=True, with_vector=True)
    with shard.calling() as it:
        records, _ = it.scroll(request)
    return [Known(from_stored(it.payload), np.array(it.vector, dtype=np.float32)) for it in records]


def _fetched(shard: Shard, ids: "Sequence[PointId]", *, vectors: bool = False) -> "Iterator[Record]":
    """Get rows by id, with either their payloads or their vectors."""
    for page in _pages(ids):
        with shard.calling() as it:
            records = it.retrieve(page, with_payload=not vectors, with_vector=vectors)
        yield from records


def _keys(shard: Shard, where: Condition | None) -> Iterator[str]:
    import qdrant_edge as edge

    chosen = None if where is None else compiled(where)
    following: PointId | None = None
    while True:
        request = edge.ScrollRequest(following, PAGE, chosen, with_payload=["path"])
        with shard.calling() as it:
            records, following = it.scroll(request)
        yield from (str(record.payload["path"]) for record in records if record.payload)
        if following is None:
            return


def _nearest(
    shard: "EdgeShard", vector: Vector, limit: int, chosen: "Filter | None", *, ef: int | None
) -> "list[ScoredPoint]":
    """Find the rows nearest to a vector; `ef` None: compare with all rows."""
    import qdrant_edge as edge

    exact = ef is None
    params = edge.SearchParams(
        hnsw_ef=ef,
        exact=exact,
        quantization=edge.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=OVERSAMPLING),
        acorn=edge.AcornSearchParams(enable=chosen is not None, max_selectivity=1.0),
    )
    nearest = edge.Query.Nearest(vector.tolist())
    return shard.query(edge.QueryRequest(limit, query=nearest, filter=chosen, params=params, with_payload=True))


def _pages(items: Sequence[T], size: int = PAGE) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _id_pages(keys: Sequence[str]) -> "Iterator[list[PointId]]":
    """The distinct ids of keys, in pages."""
    for page in _pages(list(dict.fromkeys(keys))):
        yield [row_id(key) for key in page]
