"""What a condition means, in plain Python, and conditions as people write them: what stores are compared with."""

import operator as op
from collections.abc import Callable, Mapping

from tuwen.index.filters import And, Compare, Condition, Not, OneOf, Or

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
        case Compare(field, operator, value):
            return f"{field} {operator} {literal(value)}"


def literal(value: Value) -> str:
    if not isinstance(value, str):
        return repr(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("é", "\\u00e9")
    return f'"{escaped}"'
