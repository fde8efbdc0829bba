"""What finds the rows of a FAISS store: the file, less what has gone since, and beside it what is newer.

Knows numbers and vectors, and when a file is worth building again. Does not know payloads.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from tuwen.index.faiss_file import FaissFile, build, extend
from tuwen.index.kinds import Design
from tuwen.index.sqlite_rows import Rows
from tuwen.index.store import Vector
from tuwen.types import Vectors

DUE = 1_000
"""rows written or removed since the last build that are not worth another; nor is one in a hundred"""
KEPT = 3
"""blocks of rows beside the file up to which they are kept in memory between searches"""

_Block = tuple[NDArray[np.int64], Vectors]


class Finder:
    """The file of one store, for one thread at a time."""

    def __init__(self, folder: Path, rows: Rows, dim: int, design: Design) -> None:
        """Map the file that was built last. What a build was writing when it was killed is cleared away.

        Raises:
            IndexInvalid: the file cannot be read. One that is missing counts as not built.
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
        """How rows are found for now: the kind of the file, `flat` where there is none."""
        return "flat" if self._file is None else self._file.kind

    def forget(self) -> None:
        """Rows have been written or removed."""
        self._gone = self._rows.gone()
        self._newer = None

    def nearest(self, vector: Vector, k: int, among: NDArray[np.int64] | None, *, exact: bool) -> list[int]:
        """The numbers of k rows nearest to a vector, and perhaps of more.

        Args:
            vector: (dim,) float32.
            k: how many.
            among: the numbers that may be found, rising; None: all.
            exact: compare with all of them; so it is where only some may be found.
        """
        found = [] if self._file is None else [self._in_file(self._file, vector, k, among, exact=exact)]
        for numbers, vectors in self._beside():
            kept = slice(None) if among is None else np.isin(numbers, among)
            scores = vectors[kept] @ vector
            found.append(numbers[kept][np.argsort(-scores, kind="stable")[:k]])
        return [int(number) for block in found for number in block]

    def rebuild(self) -> None:
        """Build the file anew where enough has changed, see `DUE`; a graph is added to unless too much is gone.

        What is gone stays in a graph that is added to, and so is no reason to.
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
        """Let go of the file."""
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
