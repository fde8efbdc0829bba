"""The seam between an index and what keeps its rows: the fields of a row, and what any store can do.

Knows no engine, no model and no lock. A store is given rows that are checked already (see `rows.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from tuwen.index.conditions import Condition
from tuwen.types import Hit, Payload, Row

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
