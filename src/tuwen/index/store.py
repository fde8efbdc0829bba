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
"""accepted names of kinds, in lower case -> kind"""
METRICS = {name: name for name in get_args(Metric)} | {"ip": "cosine"}
"""accepted names of metrics -> metric"""
STORES = {"auto": "auto"} | {name: name for name in get_args(StoreName)}
"""accepted names of stores -> store"""


@dataclass(frozen=True, slots=True)
class Design:
    """The kind, metric and store of a new index, valid together: see `design`."""

    kind: Kind = "hnsw"
    metric: Metric = "cosine"
    store: StoreName = "qdrant-edge"


def design(kind: str = "hnsw", metric: str = "cosine", store: str = "auto") -> Design:
    """Validate kind, metric and store, ignoring case.

    Args:
        kind: `hnsw` (or `HNSW32`), `flat` or `ivf`.
        metric: `cosine` (or `ip`, which is the same for vectors of length 1) or `l2`.
        store: `qdrant-edge`, `faiss`, `qdrant` (a cluster), or `auto`: FAISS for `ivf`, else Qdrant Edge.

    Raises:
        InvalidInput: an unknown name, or a kind that the store does not support.
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
        raise InvalidInput(f"unknown {what} {name!r}; choose one of: {', '.join(names)}", value=name, where=what)
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
    """A row with the requested content."""

    payload: Payload
    vector: Vector


def known_ids(ids: Sequence[str]) -> list[UUID]:
    """The valid row ids among these strings, without duplicates."""
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
        """Get payloads by key; unknown keys are left out."""
        ...

    def get(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Get rows by id; unknown ids are left out."""
        ...

    def vectors(self, ids: Sequence[str]) -> dict[str, Vector]:
        """Get vectors by id; unknown ids are left out."""
        ...

    def set_payloads(self, payloads: Mapping[str, Payload]) -> None:
        """Replace the payloads of existing rows; their vectors stay."""
        ...

    def known(self, contents: Sequence[str]) -> dict[str, Known]:
        """Get a row for each content; unknown contents are left out."""
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
        """The smallest and the largest number in a field; None if no row has one."""
        ...

    def scan(self, where: Condition | None) -> Iterator[Stored]:
        """Iterate over the rows that match a condition, in the order of their keys."""
        ...

    def search(self, vector: Vector, k: int, where: Condition | None, *, exact: bool) -> list[Hit]:
        """Find the k rows with the highest cosine to a vector, best first, equal scores by key."""
        ...

    def optimize(self, quantize_above: int) -> None:
        """Build graphs or lists that make searches fast. May take minutes, and may be killed and restarted at any time.

        Args:
            quantize_above: number of rows above which vectors are also stored as int8. Scores stay exact.
        """
        ...

    def close(self) -> None:
        """Close all files. May be called twice."""
        ...
