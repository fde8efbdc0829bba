"""Near-duplicates: all groups of rows of an index that show nearly the same image.

Rows of the same content are found by their hashes; one row of each content is searched for with its own vector, and
rows that are near enough join its group. Groups are connected: where a is near b and b near c, all three are in one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuwen.errors import InvalidInput
from tuwen.index.store import Stored, Vector
from tuwen.types import Payload

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex

PAGE = 500
"""rows whose vectors are read at a time"""
_NEIGHBOURS, _MORE = 8, 8
"""hits asked for at first, and how many times as many where all of them are near"""

Group = tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class Searched:
    """Progress: `done` of `total` contents."""

    done: int
    total: int


class Groups:
    """Groups of the numbers 0, 1, …, which can be joined (union-find with path halving)."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def first(self, one: int) -> int:
        """The smallest number of a group."""
        while self._above[one] != one:
            self._above[one] = one = self._above[self._above[one]]
        return one

    def join(self, one: int, other: int) -> None:
        """Join two groups."""
        low, high = sorted((self.first(one), self.first(other)))
        self._above[high] = low

    def several(self) -> list[list[int]]:
        """The groups of more than one number."""
        members: dict[int, list[int]] = {}
        for one in range(len(self._above)):
            members.setdefault(self.first(one), []).append(one)
        return [group for group in members.values() if len(group) > 1]


class Duplicates:
    """The search for near-duplicates in one index: iterate to its end, then ask for the groups."""

    def __init__(self, index: "VectorIndex", threshold: float) -> None:
        """Nothing is read yet.

        Args:
            index: where; it is not changed.
            threshold: the cosine from which two rows are nearly the same.

        Raises:
            InvalidInput: the threshold is not above 0, or above 1.
        """
        if not 0 < threshold <= 1:
            raise InvalidInput(f"the threshold is {threshold:g}: it must be a cosine above 0, up to 1", value=threshold)
        self._index = index
        self._threshold = threshold - 1e-6  # a float32 vector's cosine with itself may be a little below 1
        self._ids: list[str] = []
        self._groups = Groups(0)

    def __iter__(self) -> Iterator[Searched]:
        """Search, page by page."""
        contents = self._join_copies()
        places = {row: place for place, row in enumerate(self._ids)}
        for start in range(0, len(contents), PAGE):
            page = [self._ids[place] for place in contents[start : start + PAGE]]
            for row, vector in self._index.vectors(page).items():
                for near in self._near(vector):
                    if near in places:  # not where another thread has added it since
                        self._groups.join(places[row], places[near])
            yield Searched(start + len(page), len(contents))

    def groups(self) -> list[Group]:
        """The groups, largest first; in each the row with most pixels first, of those the one of most bytes."""
        chosen = [[self._ids[place] for place in group] for group in self._groups.several()]
        found = [tuple(sorted(self._index.get(group).values(), key=_best_first)) for group in chosen]
        return sorted(
            (group for group in found if len(group) > 1),
            key=lambda group: (-len(group), str(group[0].payload["path"])),
        )

    def _join_copies(self) -> Sequence[int]:
        """Read which rows there are and join those of one content; the place of one row of each content."""
        first: dict[object, int] = {}
        copies = []
        for place, row in enumerate(self._index.list()):
            self._ids.append(row.id)
            at = first.setdefault(row.payload.get("content", row.id), place)
            if at != place:
                copies.append((at, place))
        self._groups = Groups(len(self._ids))
        for one, other in copies:
            self._groups.join(one, other)
        return list(first.values())

    def _near(self, vector: Vector) -> list[str]:
        """Ids of all rows that are near enough: more are asked for as long as all are."""
        count = _NEIGHBOURS
        while True:
            hits = self._index.search(vector, k=count, min_score=self._threshold)
            if len(hits) < count:
                return [hit.id for hit in hits]
            count *= _MORE


def _best_first(row: Stored) -> tuple[float, float, str]:
    pixels = _number(row.payload, "width") * _number(row.payload, "height")
    return -pixels, -_number(row.payload, "bytes"), str(row.payload["path"])


def _number(payload: Payload, field: str) -> float:
    """A number of a row, 0 if it has none."""
    value = payload.get(field, 0)
    return value if isinstance(value, int | float) else 0
