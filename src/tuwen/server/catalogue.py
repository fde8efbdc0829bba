"""All rows in the order of their keys, as one browses them, and what can be filtered by.

An index is read through for it, so what was read is kept until this service writes, or a minute has passed: an
index in a cluster may have other writers. Knows rows; does not know pictures.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

from tuwen.index.store import Stored

if TYPE_CHECKING:
    from tuwen.index.index import Index

T = TypeVar("T")

KEPT = 8
"""filters whose rows are remembered"""
SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What filters can ask for.

    Attributes:
        folders: how many rows each has, by name.
        modified: the earliest and the latest time, None where there is no picture.
        width: the smallest and the largest.
    """

    folders: tuple[tuple[str, int], ...]
    modified: tuple[float, float] | None
    width: tuple[int, int] | None


class Catalogue:
    """Pages of rows. Safe in several threads."""

    def __init__(self, index: "Index") -> None:
        self._index = index
        self._ids: _Kept[tuple[str, ...]] = _Kept()
        self._summary: _Kept[Summary] = _Kept()

    def page(self, where: str | None, offset: int, k: int) -> tuple[int, list[Stored]]:
        """How many rows a filter leaves, and some of them by key.

        Raises:
            InvalidInput: the filter cannot be understood.
        """
        ids = self._ids.get(where or "", lambda: tuple(row.id for row in self._index.list(where)))
        wanted = ids[offset : offset + k]
        rows = self._index.get(wanted)
        return len(ids), [rows[it] for it in wanted if it in rows]

    def summary(self) -> Summary:
        """What filters can ask for."""
        return self._summary.get("", lambda: _summed(list(self._index.list())))

    def forget(self) -> None:
        """Rows have come or gone."""
        self._ids.clear()
        self._summary.clear()


class _Kept(Generic[T]):
    """The latest few values, for a while."""

    def __init__(self) -> None:
        self._values: OrderedDict[str, tuple[float, T]] = OrderedDict()
        self._lock = threading.Lock()
        self._cleared = 0

    def get(self, name: str, make: Callable[[], T]) -> T:
        with self._lock:
            since, value = self._values.get(name, (0.0, None))
            if value is not None and monotonic() - since < SECONDS:
                return value
            before = self._cleared
        made = make()
        with self._lock:
            if self._cleared == before:  # else rows changed meanwhile
                self._values[name] = (monotonic(), made)
                self._values.move_to_end(name)
                while len(self._values) > KEPT:
                    self._values.popitem(last=False)
        return made

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
            self._cleared += 1


def _summed(rows: Sequence[Stored]) -> Summary:
    folders = Counter(str(row.payload.get("folder", "")) for row in rows)
    modified = [float(row.payload["modified"]) for row in rows if "modified" in row.payload]
    widths = [int(row.payload["width"]) for row in rows if "width" in row.payload]
    return Summary(
        tuple(sorted(folders.items())),
        (min(modified), max(modified)) if modified else None,
        (min(widths), max(widths)) if widths else None,
    )
