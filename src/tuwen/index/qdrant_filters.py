"""Conditions in Qdrant's words. Knows both languages; does not know rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuwen.index.conditions import FIELDS, And, Compare, Condition, Not, OneOf, Or
from tuwen.index.qdrant_payload import rounded

if TYPE_CHECKING:
    from qdrant_edge import FieldCondition, Filter

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
    """A comparison of numbers is a range: `==` on floats is not known. 15 digits are compared, see `to_stored`."""
    import qdrant_edge as edge

    value = float(condition.value)
    bound = rounded(value) if FIELDS[condition.field] is float else value
    return edge.FieldCondition(
        condition.field, range=edge.RangeFloat(**dict.fromkeys(_BOUNDS[condition.operator], bound))
    )
