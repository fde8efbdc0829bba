"""Payloads that come back from a shard as they went in. Knows how a shard writes numbers; does not know shards."""

import math
from collections.abc import Mapping
from typing import Any

from tuwen.types import Payload

_EXACT = "_exact"


def to_stored(payload: Payload) -> dict[str, Any]:
    """A payload as a shard keeps it.

    A shard writes numbers as decimals and reads one in seven of them back wrong by its last bit. Floats of up to 15
    digits come back right: those are filtered by (for a time of today that is to the microsecond). Longer ones are
    kept beside, as text.
    """
    floats = {name: value for name, value in payload.items() if isinstance(value, float)}
    exact = {name: value.hex() for name, value in floats.items() if not _survives(value)}
    return {
        **payload,
        **{name: rounded(value) for name, value in floats.items()},
        **({_EXACT: exact} if exact else {}),
    }


def from_stored(stored: Mapping[str, Any] | None) -> Payload:
    """The inverse of `to_stored`. Rows of before there were texts have no type: they are pictures."""
    payload = {"type": "image", **(stored or {})}
    for name, value in payload.pop(_EXACT, {}).items():
        payload[name] = float.fromhex(value)
    return payload


def rounded(value: float) -> float:
    """A float to 15 digits, as it is filtered by; the very largest cannot be rounded up."""
    short = float(f"{value:.15g}")
    return short if math.isfinite(short) else value


def _survives(value: float) -> bool:
    return rounded(value) == value and (value == 0 or 1e-6 <= abs(value) < 1e15)
