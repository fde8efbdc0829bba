"""Conditions on the fields of a row: what a filter means, in the five shapes that every store compiles.

Knows the fields. Does not know how a filter is written (`filters.py`), nor any store.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tuwen.errors import InvalidInput

FIELDS: Mapping[str, type[str] | type[int] | type[float]] = {
    "path": str,
    "type": str,
    "folder": str,
    "name": str,
    "content": str,
    "width": int,
    "height": int,
    "format": str,
    "modified": float,
    "bytes": int,
    "text": str,
}
"""what a row can be filtered by, and what it is"""
TYPES = ("image", "text")
"""what a row can be of; one that does not say is of a picture"""

Operator: TypeAlias = Literal["==", "<", "<=", ">", ">=", "startswith", "contains"]


@dataclass(frozen=True, slots=True)
class Compare:
    """A field against a value: text for a field of texts, number for one of numbers. False where a row has none."""

    field: str
    operator: Operator
    value: str | int | float


@dataclass(frozen=True, slots=True)
class OneOf:
    """A field that equals one of some values."""

    field: str
    values: tuple[str | int | float, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    part: "Condition"


@dataclass(frozen=True, slots=True)
class And:
    """All of them."""

    parts: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of them."""

    parts: "tuple[Condition, ...]"


Condition: TypeAlias = Compare | OneOf | Not | And | Or


def checked_field(field: str, *kinds: type) -> str:
    """A field, if it is one of some kinds.

    Raises:
        InvalidInput: it is not.
    """
    if FIELDS.get(field) not in kinds:
        fitting = [name for name, kind in FIELDS.items() if kind in kinds]
        raise InvalidInput(f"{field!r} is no field for that: choose one of {', '.join(fitting)}")
    return field


def parts_of(condition: Condition) -> Iterator[Condition]:
    """The conditions that a condition is made of."""
    if isinstance(condition, Not):
        yield condition.part
    elif isinstance(condition, And | Or):
        yield from condition.parts


def negated(condition: Condition) -> Condition:
    """The opposite, without a second negation."""
    return condition.part if isinstance(condition, Not) else Not(condition)


def depth(condition: Condition) -> int:
    """How many conditions stand within one another."""
    return 1 + max((depth(part) for part in parts_of(condition)), default=0)
