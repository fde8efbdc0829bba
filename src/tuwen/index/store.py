"""The `Store` protocol, which every storage engine implements, and the kinds of indexes.

A store gets rows that have been validated already, see `rows.py`.
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

Kind: TypeAlias = Literal["hnsw", "flat", "ivf"]
Metric: TypeAlias = Literal["cosine", "l2"]
StoreName: TypeAlias = Literal["qdrant-edge", "faiss", "qdrant"]

KINDS = {name: name for name in get_args(Kind)} | {"hnsw32": "hnsw"}
"""names, in lower case, to kinds"""
METRICS = {name: name for name in get_args(Metric)} | {"ip": "cosine"}
"""likewise"""
STORES = {"auto": "auto"} | {name: name for name in get_args(StoreName)}
"""likewise"""


@dataclass(frozen=True, slots=True)
class Design:
    """The kind, metric and store of a new index, valid together: see `design`."""

    kind: Kind = "hnsw"
    metric: Metric = "cosine"
    store: StoreName = "qdrant-edge"


def design(kind: str = "hnsw", metric: str = "cosine", store: str = "auto") -> Design:
    """Check what is asked for, ignoring case.

    Args:
        kind: `hnsw` (of old `HNSW32`), `flat` or `ivf`.
        metric: `cosine`, or `ip`, which on vectors of length 1 is the same; or `l2`.
        store: `qdrant-edge`, `faiss`, `qdrant` (a cluster), or `auto`: FAISS for `ivf`, else Qdrant Edge.

    Raises:
        InvalidInput: an unknown name, or a kind that the store does not have.
    """
    chosen = _named("kind", kind, KINDS)
    keeper = _named("store", store, STORES)
    if keeper == "auto":
        keeper = "faiss" if chosen == "ivf" else "qdrant-edge"
    if chosen == "ivf" and keeper != "faiss":
        hint = "use the store faiss in a folder, or the kind hnsw"
        raise InvalidInput(
            f"the store {keeper} does not support the kind ivf: {hint}", value=keeper, where="kind", hint=hint
        )
    return Design(chosen, _named("metric", metric, METRICS), keeper)  # type: ignore[arg-type]


def _named(what: str, name: str, names: dict[str, str]) -> str:
    if name.lower() not in names:
        raise InvalidInput(f"unknown {what} {name!r}: choose one of {', '.join(names)}", value=name, where=what)
    return names[name.lower()]


Vector: TypeAlias = NDArray[np.float32]
"""(dim,) float32 of length 1."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored row, without its vector."""

    id: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class Known:
    """A row of the content that was asked for."""

    payload: Payload
    vector: Vector


def known_ids(ids: Sequence[str]) -> list[UUID]:
    """The texts that are valid row ids, each once."""
    found = []
    for text in dict.fromkeys(ids):
        with suppress(ValueError):
            if str(UUID(text)) == text:
                found.append(UUID(text))
    return found


def row_id(key: str) -> UUID:
    """The id of a row: the UUIDv5 of its key in the URL namespace, the same on every machine."""
    return uuid5(NAMESPACE_URL, key)


class Store(Protocol):
    """A storage engine with the rows of one index.

    Rows are identified by their keys; a payload holds its row's key as `path`. All methods may be called from several
    threads. What `upsert`, `remove` and `set_payloads` have written when they return survives a kill and a power cut.
    """

    @property
    def rows(self) -> int:
        """The number of rows."""
        ...

    @property
    def searched(self) -> str:
        """The kind of index that is searched at present, which may be simpler than the one it was created as."""
        ...

    def upsert(self, rows: Sequence[Row]) -> None:
        """Write rows, each key once. A row whose key exists is replaced as a whole, or stays as it was."""
        ...

    def remove(self, keys: Sequence[str]) -> int:
        """Remove rows; returns how many of them there were."""
        ...

    def payloads(self, keys: Sequence[str]) -> dict[str, Payload]:
        """Key to payload, for those keys that exist."""
        ...

    def get(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Id to row, for those ids that exist."""
        ...

    def vectors(self, ids: Sequence[str]) -> dict[str, Vector]:
        """Id to vector, for those ids that exist."""
        ...

    def set_payloads(self, payloads: Mapping[str, Payload]) -> None:
        """Replace the payloads of existing rows; their vectors stay."""
        ...

    def known(self, contents: Sequence[str]) -> dict[str, Known]:
        """Content to one of the rows that have it, for those contents that exist."""
        ...

    def count(self, where: Condition | None) -> int:
        """The number of rows that match a condition."""
        ...

    def keys(self, where: Condition | None) -> list[str]:
        """The keys of the rows that match a condition, sorted."""
        ...

    def values(self, field: str) -> dict[str, int]:
        """Each text in a field, and the number of rows that have it."""
        ...

    def bounds(self, field: str) -> tuple[float, float] | None:
        """The least and the greatest number in a field; None if no row has one."""
        ...

    def scan(self, where: Condition | None) -> Iterator[Stored]:
        """The rows that match a condition, by key."""
        ...

    def search(self, vector: Vector, k: int, where: Condition | None, *, exact: bool) -> list[Hit]:
        """The k rows of highest cosine with a vector, best first, equal scores by key."""
        ...

    def optimize(self, quantize_above: int) -> None:
        """Build what makes searches fast. May take minutes; may be killed and started again at any moment.

        Args:
            quantize_above: rows above which vectors are also kept as int8. Scores stay exact.
        """
        ...

    def close(self) -> None:
        """Close all files. May be called twice."""
        ...
