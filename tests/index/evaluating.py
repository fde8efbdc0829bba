"""What a condition means, in plain Python, and conditions as people write them: what stores are compared with."""

import operator as op
from collections.abc import Callable, Mapping

from tuwen.index.filters import And, Compare, Condition, Near, Not, OneOf, Or, distance

Value = str | int | float
OPERATORS: dict[str, Callable[[Value, Value], bool]] = {
    "==": op.eq,
    "<": op.lt,
    "<=": op.le,
    ">": op.gt,
    ">=": op.ge,
    "startswith": str.startswith,
    "contains": op.contains,
}


def holds(condition: Condition, payload: Mapping[str, Value]) -> bool:
    match condition:
        case And(parts):
            return all(holds(part, payload) for part in parts)
        case Or(parts):
            return any(holds(part, payload) for part in parts)
        case Not(part):
            return not holds(part, payload)
        case OneOf(field, values):
            return any(compares(payload.get(field), "==", value) for value in values)
        case Near(latitude, longitude, metres):
            place = payload.get("latitude"), payload.get("longitude")
            there = None not in place and abs(place[0]) <= 90 and abs(place[1]) <= 180
            return there and distance(latitude, longitude, *place) <= metres
        case Compare(field, operator, value):
            return compares(payload.get(field), operator, value)


def compares(stored: Value | None, operator: str, value: Value) -> bool:
    if stored is None:
        return False
    if isinstance(stored, float) or isinstance(value, float):
        stored, value = float(f"{stored:.15g}"), float(f"{value:.15g}")
    return OPERATORS[operator](stored, value)


def written(condition: Condition) -> str:
    match condition:
        case And(parts):
            return "(" + " and ".join(map(written, parts)) + ")"
        case Or(parts):
            return "(" + " or ".join(map(written, parts)) + ")"
        case Not(part):
            return f"not {written(part)}"
        case OneOf(field, values):
            return f"{field} in [{', '.join(map(literal, values))}]"
        case Near(latitude, longitude, metres):
            return f"near({latitude}, {longitude}, {metres} m)"
        case Compare(field, operator, value):
            return f"{field} {operator} {literal(value)}"


def literal(value: Value) -> str:
    if not isinstance(value, str):
        return repr(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("é", "\\u00e9")
    return f'"{escaped}"'
