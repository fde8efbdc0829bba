"""What an index can be: how its rows are found, how near two vectors are, what keeps the rows.

Knows names, and which go together. Does not know the stores themselves.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from tuwen.errors import InvalidInput

Kind: TypeAlias = Literal["hnsw", "flat", "ivf"]
Metric: TypeAlias = Literal["cosine", "l2"]
StoreName: TypeAlias = Literal["qdrant-edge", "faiss", "qdrant"]

KINDS = {name: name for name in get_args(Kind)} | {"hnsw32": "hnsw"}
"""by any name, in lower case"""
METRICS = {name: name for name in get_args(Metric)} | {"ip": "cosine"}
"""likewise"""
STORES = {"auto": "auto"} | {name: name for name in get_args(StoreName)}
"""likewise"""


@dataclass(frozen=True, slots=True)
class Design:
    """What a new index shall be, in names that are checked already: see `design`."""

    kind: Kind = "hnsw"
    metric: Metric = "cosine"
    store: StoreName = "qdrant-edge"


def design(kind: str = "hnsw", metric: str = "cosine", store: str = "auto") -> Design:
    """Check what was asked for. Upper and lower case do not differ.

    Args:
        kind: `hnsw` (of old `HNSW32`), `flat` or `ivf`.
        metric: `cosine`, or `ip`, which on vectors of length 1 is the same; or `l2`.
        store: `qdrant-edge`, `faiss`, `qdrant` (a cluster), or `auto`: FAISS for `ivf`, else Qdrant Edge.

    Raises:
        InvalidInput: there is none of that name, or the store has no such kind.
    """
    chosen = _named("kind", kind, KINDS)
    keeper = _named("store", store, STORES)
    if keeper == "auto":
        keeper = "faiss" if chosen == "ivf" else "qdrant-edge"
    if chosen == "ivf" and keeper != "faiss":
        raise InvalidInput(
            f"the store {keeper} has no kind ivf: take the store faiss in a folder, or the kind hnsw"
        )
    return Design(chosen, _named("metric", metric, METRICS), keeper)  # type: ignore[arg-type]


def _named(what: str, name: str, names: dict[str, str]) -> str:
    if name.lower() not in names:
        raise InvalidInput(f"there is no {what} {name!r} of index: choose one of {', '.join(names)}")
    return names[name.lower()]
