"""Conditions in SQL's words. Knows both languages; does not know which table the columns are of.

A column is named as its field, and is null where a row has none: no comparison is ever unknown, `not` of a missing
field is true. Texts are compared as bytes of UTF-8: prefixes and substrings are the same there, and SQLite's own
text functions end at a zero.
"""

from collections.abc import Sequence
from typing import TypeAlias

from tuwen.index.conditions import FIELDS, And, Compare, Condition, Not, OneOf, Or
from tuwen.index.qdrant_payload import rounded

Value: TypeAlias = str | int | float | bytes
Compiled: TypeAlias = tuple[str, list[Value]]
"""An expression that is 0 or 1, and the values of its question marks."""


def compiled(condition: Condition) -> Compiled:
    """A condition as an expression of SQL."""
    match condition:
        case And(parts):
            return _joined(" AND ", parts)
        case Or(parts):
            return _joined(" OR ", parts)
        case Not(part):
            words, values = compiled(part)
            return f"NOT {words}", values
        case OneOf(field, among):
            marks = ", ".join("?" * len(among))
            return _known(f'"{field}" IN ({marks})'), [comparable(field, value) for value in among]
        case Compare():
            return _compared(condition)


def comparable(field: str, value: str | int | float) -> str | int | float:
    """A value as it is compared with a field's column: floats by their first 15 digits, as every store does."""
    return rounded(float(value)) if FIELDS[field] is float else value


def _compared(condition: Compare) -> Compiled:
    column = f'"{condition.field}"'
    value = comparable(condition.field, condition.value)
    match condition.operator:
        case "startswith" | "contains" if not value:
            return f"{column} IS NOT NULL", []  # an empty blob is none to SQLite
        case "startswith":
            prefix = str(value).encode()
            return _known(f"substr(CAST({column} AS BLOB), 1, {len(prefix)}) = ?"), [prefix]
        case "contains":
            return _known(f"instr(CAST({column} AS BLOB), ?) > 0"), [str(value).encode()]
        case operator:
            return _known(f"{column} {operator} ?"), [value]


def _joined(word: str, parts: Sequence[Condition]) -> Compiled:
    words, values = zip(*map(compiled, parts), strict=True)
    return f"({word.join(words)})", [value for each in values for value in each]


def _known(words: str) -> str:
    return f"coalesce({words}, 0)"
