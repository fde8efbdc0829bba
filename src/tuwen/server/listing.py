"""The rows of an index, sorted and in pages, and the values to filter by.

Sorting needs all keys, so they are cached. Writes of this service update the cached keys of the whole index and drop
those of filters. An index in a cluster may have other writers: its keys are read again when the number of rows has
changed, and after a minute.
"""

import threading
from bisect import bisect_left
from calendar import monthrange
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

from tuwen.index.store import Stored, row_id

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex

T = TypeVar("T")

MONTHS_FOR = 3
"""years up to which images are counted by month"""
MOST_PERIODS = 80
"""years up to which those without images are listed, too"""

CACHED = 8
"""entries per cache"""
SECONDS = 60.0
"""seconds until an entry with a state expires"""


@dataclass(frozen=True, slots=True)
class Dates:
    """The number of images in each year or month.

    Attributes:
        field: the payload field with the date: `taken`, or `modified` where no row has that.
        periods: the first day of each period, its last day, and the number of images.
    """

    field: str
    periods: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """The values to filter by.

    Attributes:
        types: the number of rows of each type.
        folders: the number of rows in each folder, by name.
        cameras: the number of images of each camera; empty where no row has one.
        dates: the images over time; None where there is none.
        modified: the earliest and the latest time, None where there is no image.
        width: the smallest and the largest.
    """

    types: dict[str, int]
    folders: tuple[tuple[str, int], ...]
    cameras: tuple[tuple[str, int], ...]
    dates: "Dates | None"
    modified: tuple[float, float] | None
    width: tuple[int, int] | None


class Listing:
    """Pages of rows. Safe in several threads."""

    def __init__(self, index: "VectorIndex") -> None:
        self._index = index
        self._shared = index.folder is None
        self._keys: _Cache[list[str]] = _Cache()
        self._summary: _Cache[Summary] = _Cache()

    def page(self, where: str | None, offset: int, k: int, sort: str = "path") -> tuple[int, list[Stored]]:
        """The number of rows that match a filter, and a page of them.

        Args:
            where: the filter.
            offset: rows to skip.
            k: rows of the page.
            sort: a payload field, with `-` before it for the reverse order. Rows without the field come last.

        Raises:
            InvalidInput: the filter is malformed.
        """
        where = where or None
        name = where or "" if sort == "path" else f"{sort} {where or ''}"
        keys = self._keys.get(name, self._rows(where), lambda: list(self._index.keys(where, sort)))
        wanted = [str(row_id(key)) for key in keys[offset : offset + k]]
        rows = self._index.get(wanted)
        return len(keys), [rows[it] for it in wanted if it in rows]

    def summary(self) -> Summary:
        """The values to filter by; cached."""
        return self._summary.get("", self._rows(None), lambda: _summed(self._index))

    def added(self, key: str) -> None:
        """This service has written a row."""
        self._keys.change("", lambda keys: _put_in(keys, key))
        self._summary.clear()

    def removed(self, key: str) -> None:
        """This service has removed a row."""
        self._keys.change("", lambda keys: -_take_out(keys, key))
        self._summary.clear()

    def _rows(self, where: str | None) -> int | None:
        """The number of rows that match a filter, if others may write to the index; else None."""
        return self._index.count(where) if self._shared else None


class _Cache(Generic[T]):
    """The values used last, by name. One with a state expires when the state changes, or after a minute."""

    def __init__(self) -> None:
        self._values: OrderedDict[str, tuple[float, int | None, T]] = OrderedDict()
        self._lock = threading.Lock()
        self._cleared = 0

    def get(self, name: str, state: int | None, make: Callable[[], T]) -> T:
        with self._lock:
            since, known, value = self._values.get(name, (0.0, None, None))
            fresh = state is None or monotonic() - since < SECONDS
            if value is not None and known == state and fresh:
                return value
            before = self._cleared
        made = make()
        with self._lock:
            if self._cleared == before:  # else rows have changed meanwhile
                self._values[name] = (monotonic(), state, made)
                self._values.move_to_end(name)
                while len(self._values) > CACHED:
                    self._values.popitem(last=False)
        return made

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
            self._cleared += 1

    def change(self, name: str, change: Callable[[T], int]) -> None:
        """Change one value in place and drop all others. `change` returns by how much its state has changed."""
        with self._lock:
            kept = self._values.pop(name, None)
            self._values.clear()
            self._cleared += 1
            if kept is not None:
                since, state, value = kept
                by = change(value)
                self._values[name] = (since, None if state is None else state + by, value)


def _put_in(keys: list[str], key: str) -> int:
    place = bisect_left(keys, key)
    if place < len(keys) and keys[place] == key:
        return 0
    keys.insert(place, key)
    return 1


def _take_out(keys: list[str], key: str) -> int:
    place = bisect_left(keys, key)
    if place == len(keys) or keys[place] != key:
        return 0
    del keys[place]
    return 1


def _summed(index: "VectorIndex") -> Summary:
    width = index.bounds("width")
    return Summary(
        index.values("type"),
        tuple(sorted(index.values("folder").items())),
        tuple(sorted(index.values("camera").items())),
        _dates(index),
        index.bounds("modified"),
        None if width is None else (int(width[0]), int(width[1])),
    )


def _dates(index: "VectorIndex") -> Dates | None:
    """Images by month, or by year where they are of more than three years."""
    for field in ("taken", "modified"):
        rows = index.periods("year", field)
        if rows:
            first, last = min(rows), max(rows)
            if int(last) - int(first) < MONTHS_FOR:
                rows = index.periods("month", field)
                first, last = min(rows), max(rows)
            names = _between(first, last)
            shown = names if len(names) <= MOST_PERIODS else list(rows)
            return Dates(field, tuple((*_days(name), rows.get(name, 0)) for name in shown))
    return None


def _between(first: str, last: str) -> list[str]:
    """All years, or all months, from the first to the last."""
    if len(first) == len("2023"):
        return [f"{year:04}" for year in range(int(first), int(last) + 1)]
    start, end = (12 * int(name[:4]) + int(name[5:]) - 1 for name in (first, last))
    return [f"{month // 12:04}-{month % 12 + 1:02}" for month in range(start, end + 1)]


def _days(name: str) -> tuple[str, str]:
    """The first and the last day of a year or a month."""
    if len(name) == len("2023"):
        return f"{name}-01-01", f"{name}-12-31"
    year, month = map(int, name.split("-"))
    return f"{name}-01", f"{name}-{monthrange(year, month)[1]}"
