"""What a Qdrant Edge shard tells of all rows without reading them: from its payload indexes, in milliseconds.

Knows fields. Does not know rows: see `qdrant.py`.
"""

from tuwen.index.conditions import Condition
from tuwen.index.qdrant_filters import compiled
from tuwen.index.qdrant_payload import from_stored
from tuwen.index.qdrant_shard import Shard


def count(shard: Shard, where: Condition | None) -> int:
    """How many rows fulfil a condition, see `Store`."""
    import qdrant_edge as edge

    request = edge.CountRequest(exact=True, filter=None if where is None else compiled(where))
    with shard.calling() as it:
        return it.count(request)


def values(shard: Shard, field: str, rows: int) -> dict[str, int]:
    """Each text in a field, of that many rows, see `Store`."""
    import qdrant_edge as edge

    request = edge.FacetRequest(field, limit=max(1, rows), exact=True)
    with shard.calling() as it:
        hits = it.facet(request).hits
    return {str(hit.value): hit.count for hit in hits if hit.count}  # what was there once has none


def bounds(shard: Shard, field: str) -> tuple[float, float] | None:
    """The least and the greatest number in a field, see `Store`."""
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
