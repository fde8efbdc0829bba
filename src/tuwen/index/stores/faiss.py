"""The FAISS store: rows in SQLite, and a FAISS file to search them.

New rows are searched exhaustively until `optimize` rebuilds the file; removed rows are skipped until then. So rows can
be added to and removed from every kind of index at any time, and the file can always be rebuilt. With a filter, all
rows that match it are compared.
"""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.files import sync
from tuwen.errors import IndexFault, IndexInvalid
from tuwen.index.filters import Condition
from tuwen.index.space import disk_full, is_disk_full
from tuwen.index.store import Design, Known, Stored, Vector, known_ids
from tuwen.index.stores.faiss_file import FaissFile, build, extend, library
from tuwen.index.stores.sqlite_rows import Rows
from tuwen.types import Hit, Payload, Row, Vectors

DUE = 1_000
"""the file is rebuilt after more than this number of changed rows, and more than one in a hundred"""
KEPT = 3
"""rows that are not in the file are kept in memory between searches, up to this number of blocks"""

_Block = tuple[NDArray[np.int64], Vectors]


class Finder:
    """Searches a store's FAISS file and the rows that are not in it; for one thread at a time."""

    def __init__(self, folder: Path, rows: Rows, dim: int, design: Design) -> None:
        """Map the file that was built last, and remove the remains of a killed build.

        Raises:
            IndexInvalid: the file cannot be read. A missing file counts as not built.
        """
        self._folder = folder
        self._rows = rows
        self._dim = dim
        self._design = design
        self._file: FaissFile | None = None
        self._newer: list[_Block] | None = None
        self._load()

    @property
    def kind(self) -> str:
        """How rows are searched at the moment: the kind of the file, `flat` if there is none."""
        return "flat" if self._file is None else self._file.kind

    def forget(self) -> None:
        """Drop cached rows, after rows have been written or removed."""
        self._gone = self._rows.gone()
        self._newer = None

    def nearest(self, vector: Vector, k: int, among: NDArray[np.int64] | None, *, exact: bool) -> list[int]:
        """Find the numbers of at least the k rows nearest to a vector.

        Args:
            vector: (dim,) float32.
            k: the number of rows to find.
            among: the ascending numbers that may be found; None: all.
            exact: compare with all of them, as is always done if `among` is given.
        """
        found = [] if self._file is None else [self._in_file(self._file, vector, k, among, exact=exact)]
        for numbers, vectors in self._beside():
            kept = slice(None) if among is None else np.isin(numbers, among)
            scores = vectors[kept] @ vector
            found.append(numbers[kept][np.argsort(-scores, kind="stable")[:k]])
        return [int(number) for block in found for number in block]

    def rebuild(self) -> None:
        """Rebuild the file if enough has changed (see `DUE`); a graph is extended unless too many rows were removed.

        Removed rows stay in an extended graph, so they do not count towards extending it.
        """
        rows, gone = self._rows.count(), len(self._gone)
        newer = self._rows.count(above=self._top)
        extended = self._file is not None and self._file.kind == "hnsw" and gone <= rows // 10
        changed = newer if extended else newer + gone
        if changed <= (0 if self._file is None else max(DUE, rows // 100)):
            return
        name = f"{self._design.kind}-{uuid4().hex[:8]}.faiss" if rows else ""
        if extended:
            old = self._folder / self._rows.built()[0]
            extend(self._folder / name, old, lambda: self._rows.blocks(self._top))
        elif rows:
            build(self._folder / name, self._dim, self._design, self._rows.blocks, rows)
        self._rows.set_built(name, clear=not extended)
        self._load()

    def close(self) -> None:
        """Release the file."""
        self._file = None

    def _load(self) -> None:
        name, self._top = self._rows.built()
        if name and not (self._folder / name).exists():
            self._rows.set_built("", clear=True)
            name, self._top = "", 0
        self._file = FaissFile(self._folder / name) if name else None
        for path in self._folder.iterdir():
            if path.suffix in {".faiss", ".aside"} and path.name != name:
                path.unlink()
        self.forget()

    def _in_file(
        self, file: FaissFile, vector: Vector, k: int, among: NDArray[np.int64] | None, *, exact: bool
    ) -> NDArray[np.int64]:
        keep = None
        if among is not None:
            keep = np.isin(file.numbers, among, assume_unique=True)
        elif self._gone:
            keep = np.ones(len(file.numbers), np.bool_)
            keep[np.searchsorted(file.numbers, self._gone)] = False
        found = file.nearest(vector, k, keep, exact=exact or among is not None)
        wanted = min(k, len(file.numbers) if keep is None else int(keep.sum()))
        return found if len(found) == wanted else file.nearest(vector, k, keep, exact=True)

    def _beside(self) -> Iterator[_Block]:
        if self._newer is None:
            blocks = self._rows.blocks(self._top)
            first = list(islice(blocks, KEPT + 1))
            if len(first) > KEPT:
                yield from first
                yield from blocks
                return
            self._newer = first
        yield from self._newer


DATABASE = "rows.db"


class FaissStore:
    """A `Store` on FAISS and SQLite."""

    def __init__(self, folder: Path, dim: int, design: Design) -> None:
        """Open a store that `create` has made.

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
            hint = "restore a copy of the folder, or build the index again"
            raise IndexInvalid(
                f"{folder.parent}: its rows cannot be read ({error}); {hint}", where=folder.parent, hint=hint
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
        """How rows are searched at the moment: the kind of the file, `flat` if there is none."""
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
        """Search; scores are computed from the stored vectors."""
        with self._calling() as rows:
            among = None if where is None else rows.numbers(where)
            found = self._finder.nearest(vector, k, among, exact=exact)
            vectors = rows.vectors(found)
            hits = [
                Hit(name, _cosine(vector, vectors[number]), payload)
                for number, name, payload in rows.where("number", found)
            ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.payload["path"]))[:k]

    def optimize(self, quantize_above: int) -> None:  # noqa: ARG002  (files only have float32)
        """Rebuild the file if enough has changed."""
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
        """Give one thread at a time access to the rows, and turn their exceptions into IndexFault."""
        index = self._folder.parent
        with self._lock:
            if self._closed:
                raise IndexFault(f"{index} is closed; open it again", where=index)
            try:
                yield self._rows
            except (sqlite3.Error, OSError, RuntimeError) as error:
                if is_disk_full(error):
                    raise disk_full(index) from error
                raise IndexFault(f"{index}: {error}", where=index) from error


def _cosine(one: Vector, other: Vector) -> float:
    return min(1.0, max(-1.0, float(one.astype(np.float64) @ other.astype(np.float64))))
