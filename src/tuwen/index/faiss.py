"""Rows in SQLite, and beside them a FAISS file that finds them.

What is written stands in the database, and is searched exactly until `optimize` builds the file anew; what is
removed is passed over until then. So every kind can be added to and taken from at any time, and the file, which may
be lost, holds nothing that the rows do not. Under a filter, all rows that it leaves are compared.
"""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tuwen.disk import sync
from tuwen.errors import IndexFault, IndexInvalid
from tuwen.index.conditions import Condition
from tuwen.index.faiss_file import library
from tuwen.index.faiss_finder import Finder
from tuwen.index.kinds import Design
from tuwen.index.sqlite_rows import Rows
from tuwen.index.store import Known, Stored, Vector, known_ids
from tuwen.types import Hit, Payload, Row

DATABASE = "rows.db"


class FaissStore:
    """The `Store` of one index, see there."""

    def __init__(self, folder: Path, dim: int, design: Design) -> None:
        """Open what `create` has made.

        Raises:
            IndexInvalid: it cannot be read.
            MissingExtra: FAISS is not installed.
        """
        library()
        self._folder = folder
        self._lock = threading.RLock()
        self._closed = False
        try:
            self._rows = Rows(folder / DATABASE)
        except sqlite3.Error as error:
            raise IndexInvalid(
                f"{folder.parent}: its rows cannot be read ({error}): put back a copy of the folder, or build the "
                "index again"
            ) from error
        try:
            self._finder = Finder(folder, self._rows, dim, design)
        except BaseException:
            self._rows.close()
            raise

    @staticmethod
    def create(folder: Path) -> None:
        """Make an empty store in a folder that does not exist yet."""
        library()
        folder.mkdir()
        Rows.create(folder / DATABASE)
        sync(folder)

    @property
    def rows(self) -> int:  # noqa: D102
        with self._calling() as rows:
            return rows.count()

    @property
    def searched(self) -> str:
        """How rows are found for now: the kind of the file, `flat` where there is none."""
        return self._finder.kind

    def upsert(self, rows: Sequence[Row]) -> None:  # noqa: D102
        with self._calling() as stored:
            stored.upsert(rows)
            self._finder.forget()

    def remove(self, keys: Sequence[str]) -> int:  # noqa: D102
        with self._calling() as stored:
            removed = stored.remove(list(dict.fromkeys(keys)))
            self._finder.forget()
            return removed

    def payloads(self, keys: Sequence[str]) -> dict[str, Payload]:  # noqa: D102
        with self._calling() as rows:
            return {str(payload["path"]): payload for _, _, payload in rows.where("path", keys)}

    def get(self, ids: Sequence[str]) -> dict[str, Stored]:  # noqa: D102
        with self._calling() as rows:
            wanted = [str(it) for it in known_ids(ids)]
            return {name: Stored(name, payload) for _, name, payload in rows.where("id", wanted)}

    def vectors(self, ids: Sequence[str]) -> dict[str, Vector]:  # noqa: D102
        with self._calling() as rows:
            numbers = {number: name for number, name, _ in rows.where("id", [str(it) for it in known_ids(ids)])}
            return {numbers[number]: vector for number, vector in rows.vectors(list(numbers)).items()}

    def set_payloads(self, payloads: Mapping[str, Payload]) -> None:  # noqa: D102
        with self._calling() as rows:
            rows.set_payloads(payloads)

    def known(self, contents: Sequence[str]) -> dict[str, Known]:  # noqa: D102
        with self._calling() as rows:
            firsts = rows.firsts(contents)
            vectors = rows.vectors(firsts)
            found = rows.where("number", firsts)
            return {str(it["content"]): Known(it, vectors[number]) for number, _, it in found}

    def count(self, where: Condition | None) -> int:  # noqa: D102
        with self._calling() as rows:
            return rows.count() if where is None else len(rows.numbers(where))

    def keys(self, where: Condition | None) -> list[str]:  # noqa: D102
        with self._calling() as rows:
            return rows.keys(where)

    def values(self, field: str) -> dict[str, int]:  # noqa: D102
        with self._calling() as rows:
            return rows.values(field)

    def bounds(self, field: str) -> tuple[float, float] | None:  # noqa: D102
        with self._calling() as rows:
            return rows.bounds(field)

    def scan(self, where: Condition | None) -> Iterator[Stored]:  # noqa: D102
        last = ""
        while True:
            with self._calling() as rows:
                page = rows.after(last, where)
            if not page:
                return
            yield from (Stored(name, payload) for name, payload in page)
            last = str(page[-1][1]["path"])

    def search(self, vector: Vector, k: int, where: Condition | None, *, exact: bool) -> list[Hit]:
        """Scores are of the stored vectors, whatever found them."""
        with self._calling() as rows:
            among = None if where is None else rows.numbers(where)
            found = self._finder.nearest(vector, k, among, exact=exact)
            vectors = rows.vectors(found)
            hits = [
                Hit(name, _cosine(vector, vectors[number]), payload)
                for number, name, payload in rows.where("number", found)
            ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.payload["path"]))[:k]

    def optimize(self, quantize_above: int) -> None:  # noqa: ARG002  (files keep float32 alone)
        """Build the file anew, where enough has changed."""
        with self._calling():
            self._finder.rebuild()

    def close(self) -> None:  # noqa: D102
        with self._lock:
            if not self._closed:
                self._closed = True
                self._rows.close()
                self._finder.close()

    @contextmanager
    def _calling(self) -> Iterator[Rows]:
        """The rows, for one thread at a time; what they raise becomes one line."""
        index = self._folder.parent
        with self._lock:
            if self._closed:
                raise IndexFault(f"{index} is closed: open it again")
            try:
                yield self._rows
            except (sqlite3.Error, OSError, RuntimeError) as error:
                raise IndexFault(f"{index}: {error}") from error


def _cosine(one: Vector, other: Vector) -> float:
    return min(1.0, max(-1.0, float(one.astype(np.float64) @ other.astype(np.float64))))
