"""Conditions in the words of a Qdrant cluster. Knows both languages; does not know rows."""

from typing import TYPE_CHECKING

from tuwen.index.conditions import FIELDS, And, Compare, Condition, Not, OneOf, Or
from tuwen.index.qdrant_payload import rounded

if TYPE_CHECKING:
    from qdrant_client.models import FieldCondition, Filter

_BOUNDS = {"<": ("lt",), "<=": ("lte",), ">": ("gt",), ">=": ("gte",), "==": ("gte", "lte")}


def compiled(condition: Condition) -> "Filter":
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
    """A comparison of numbers is a range: `==` on floats is not known. 15 digits are compared, see `to_stored`."""
    from qdrant_client import models

    value = float(condition.value)
    bound = rounded(value) if FIELDS[condition.field] is float else value
    bounds = dict.fromkeys(_BOUNDS[condition.operator], bound)
    return models.FieldCondition(key=condition.field, range=models.Range(**bounds))
