"""Rows that are asked for by what they are called or what they hold, not by a vector.

Knows keys, ids and contents. Does not know search, nor how rows are written.
"""

from collections.abc import Iterator, Sequence

from tuwen.index.conditions import checked_field
from tuwen.index.filters import parse
from tuwen.index.store import Known, Store, Stored, Vector
from tuwen.types import Payload


class Lookup:
    """The half of an `Index` that looks rows up."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def payloads(self, keys: Sequence[str]) -> dict[str, Payload]:
        """Key -> what is stored with it, of those keys that there are."""
        return self._store.payloads(keys)

    def get(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Id -> row, of those ids that there are. A row's id is that of its `Hit`."""
        return self._store.get(ids)

    def vectors(self, ids: Sequence[str]) -> dict[str, Vector]:
        """Id -> (dim,) float32 of length 1, of those ids that there are."""
        return self._store.vectors(ids)

    def known(self, content: str) -> Known | None:
        """A row that has a content: its payload and its vector; None if there is none."""
        return self._store.known([content]).get(content)

    def vectors_of(self, contents: Sequence[str]) -> dict[str, Vector]:
        """Content -> the vector of a row that has it, of those contents that there are."""
        return {content: row.vector for content, row in self._store.known(contents).items()}

    def count(self, where: str | None = None) -> int:
        """How many rows there are; with `where`, how many it keeps (else InvalidInput)."""
        return self._store.count(None if where is None else parse(where))

    def keys(self, where: str | None = None) -> Sequence[str]:
        """The keys of the rows, sorted; with `where`, of those that it keeps (else InvalidInput)."""
        return self._store.keys(None if where is None else parse(where))

    def values(self, field: str) -> dict[str, int]:
        """Each text that rows have in a field, and how many have it (InvalidInput: it is no field of texts)."""
        return self._store.values(checked_field(field, str))

    def bounds(self, field: str) -> tuple[float, float] | None:
        """The least and the greatest number of a field, None where none has any (InvalidInput: no numbers)."""
        return self._store.bounds(checked_field(field, int, float))

    def list(self, where: str | None = None) -> Iterator[Stored]:
        """The rows by key, without their vectors; with `where`, those that it keeps (else InvalidInput)."""
        return self._store.scan(None if where is None else parse(where))
