"""What an index can be: how its rows are found, and how near two vectors are. Knows names; does not know stores."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from tuwen.errors import InvalidInput

Kind: TypeAlias = Literal["hnsw", "flat"]
Metric: TypeAlias = Literal["cosine", "l2"]

_KINDS = {name: name for name in get_args(Kind)} | {"hnsw32": "hnsw"}
_METRICS = {name: name for name in get_args(Metric)} | {"ip": "cosine"}


@dataclass(frozen=True, slots=True)
class Design:
    """What a new index shall be, in names that are checked already: see `design`."""

    kind: Kind = "hnsw"
    metric: Metric = "cosine"


def design(kind: str = "hnsw", metric: str = "cosine") -> Design:
    """Check what was asked for. Upper and lower case do not differ.

    Args:
        kind: `hnsw` (of old `HNSW32`) or `flat`.
        metric: `cosine`, or `ip`, which on vectors of length 1 is the same; or `l2`.

    Raises:
        InvalidInput: there is no such kind or metric.
    """
    return Design(_named("kind", kind, _KINDS), _named("metric", metric, _METRICS))  # type: ignore[arg-type]


def _named(what: str, name: str, names: dict[str, str]) -> str:
    if name.lower() not in names:
        raise InvalidInput(f"there is no {what} {name!r} of index: choose one of {', '.join(names)}")
    return names[name.lower()]
