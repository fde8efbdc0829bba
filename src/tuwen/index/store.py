"""The seam between an index and what keeps its rows: the fields of a row, and what any store can do.

Knows no engine, no model and no lock. A store is given rows that are checked already (see `rows.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from tuwen.errors import InvalidInput
from tuwen.index.filters import Condition
from tuwen.types import Hit, Payload, Row

# ---- What an index can be: how its rows are found, how near two vectors are, what keeps the rows.

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
        raise InvalidInput(f"the store {keeper} has no kind ivf: take the store faiss in a folder, or the kind hnsw")
    return Design(chosen, _named("metric", metric, METRICS), keeper)  # type: ignore[arg-type]


def _named(what: str, name: str, names: dict[str, str]) -> str:
    if name.lower() not in names:
        raise InvalidInput(f"there is no {what} {name!r} of index: choose one of {', '.join(names)}")
    return names[name.lower()]


# ---- The seam between an index and what keeps its rows: the fields of a row, and what any store can do.

Vector: TypeAlias = NDArray[np.float32]
"""(dim,) float32 of length 1."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of a row, without its vector."""

    id: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class Known:
    """A row that has the content that was asked for."""

    payload: Payload
    vector: Vector


def known_ids(ids: Sequence[str]) -> list[UUID]:
    """Those of some texts that are written as ids of rows are, each once."""
    found = []
    for text in dict.fromkeys(ids):
        with suppress(ValueError):
            if str(UUID(text)) == text:
                found.append(UUID(text))
    return found


def row_id(key: str) -> UUID:
    """The id of a row: the UUIDv5 of its key in the namespace for URLs, so the same for everybody and forever."""
    return uuid5(NAMESPACE_URL, key)


class Store(Protocol):
    """What keeps the rows of one index.

    Rows are named by their keys; a payload holds its row's key as `path`. All methods may be called from several
    threads. What `upsert`, `remove` and `set_payloads` have returned from outlives the process and a power cut.
    """

    @property
    def rows(self) -> int:
        """How many rows there are."""
        ...

    @property
    def searched(self) -> str:
        """The kind of index that rows are found by for now, which may be simpler than the one it was made as."""
        ...

    def upsert(self, rows: Sequence[Row]) -> None:
        """Write rows, each key once. One whose key is there already is replaced as a whole, or stays as it was."""
        ...

    def remove(self, keys: Sequence[str]) -> int:
        """Take rows out; how many of them there were."""
        ...

    def payloads(self, keys: Sequence[str]) -> dict[str, Payload]:
        """Key -> payload, of those keys that there are."""
        ...

    def get(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Id -> row, of those ids that there are."""
        ...

    def vectors(self, ids: Sequence[str]) -> dict[str, Vector]:
        """Id -> vector, of those ids that there are."""
        ...

    def set_payloads(self, payloads: Mapping[str, Payload]) -> None:
        """Put other payloads to rows that there are; their vectors stay."""
        ...

    def known(self, contents: Sequence[str]) -> dict[str, Known]:
        """Content -> one of the rows that have it, of those contents that there are."""
        ...

    def count(self, where: Condition | None) -> int:
        """How many rows fulfil a condition."""
        ...

    def keys(self, where: Condition | None) -> list[str]:
        """The keys of the rows that fulfil a condition, sorted."""
        ...

    def values(self, field: str) -> dict[str, int]:
        """Each text that rows have in a field, and how many have it."""
        ...

    def bounds(self, field: str) -> tuple[float, float] | None:
        """The least and the greatest number that rows have in a field; None where no row has any."""
        ...

    def scan(self, where: Condition | None) -> Iterator[Stored]:
        """The rows that fulfil a condition, by key."""
        ...

    def search(self, vector: Vector, k: int, where: Condition | None, *, exact: bool) -> list[Hit]:
        """The k rows of highest cosine with a vector, best first, equal ones by key."""
        ...

    def optimize(self, quantize_above: int) -> None:
        """Do what makes later searches fast. May take minutes; may be killed and begun again at any moment.

        Args:
            quantize_above: rows above which vectors are also kept as int8. Scores are exact all the same.
        """
        ...

    def close(self) -> None:
        """Let go of all files. May be called twice."""
        ...
