"""A FAISS index file: building, extending, memory-mapping and searching it.

Other tools can read the file: it is an `IndexIDMap2` around an `IndexFlat`, `IndexHNSWFlat` or `IndexIVFFlat`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.files import sync
from tuwen.errors import IndexInvalid, require
from tuwen.index.store import Design
from tuwen.index.stores.hnsw_ef import ef_for
from tuwen.types import Vectors

Blocks: TypeAlias = Callable[[], Iterator[tuple[NDArray[np.int64], Vectors]]]
"""A function that yields ascending numbers and their vectors, block by block."""
Numbers: TypeAlias = NDArray[np.int64]

LINKS, CANDIDATES = 32, 200
"""HNSW's M and efConstruction"""
FEWEST_LISTS, MOST_LISTS, ROWS_PER_LIST = 8, 65_536, 39
"""IVF: the fewest and most lists; FAISS needs at least 39 rows to train the centroid of each"""
_SAMPLE = 128
"""rows per list that its centroid is trained on"""


def lists_for(rows: int) -> int:
    """The number of lists of an IVF index: four times the square root of `rows`; 0 if there are too few rows."""
    lists = min(round(4 * rows**0.5), rows // ROWS_PER_LIST, MOST_LISTS)
    return lists if lists >= FEWEST_LISTS else 0


def probes_for(lists: int) -> int:
    """The number of lists that a search reads."""
    return min(lists, max(32, lists // 8))


def build(path: Path, dim: int, design: Design, blocks: Blocks, rows: int) -> None:
    """Build a file of `rows` rows; a kill leaves either the whole file or none of that name."""
    faiss = library()
    metric = faiss.METRIC_L2 if design.metric == "l2" else faiss.METRIC_INNER_PRODUCT
    lists = lists_for(rows) if design.kind == "ivf" else 0
    if lists:
        inner = faiss.IndexIVFFlat(faiss.IndexFlat(dim, metric), dim, lists, metric)
        inner.train(_sample(blocks, max(1, rows // (lists * _SAMPLE))))
    elif design.kind == "hnsw":
        inner = faiss.IndexHNSWFlat(dim, LINKS, metric)
        inner.hnsw.efConstruction = CANDIDATES
    else:
        inner = faiss.IndexFlat(dim, metric)
    _fill(faiss.IndexIDMap2(inner), path, blocks)


def extend(path: Path, old: Path, blocks: Blocks) -> None:
    """Build a file from an older one and further rows; see `build`."""
    _fill(library().read_index(str(old)), path, blocks)


class FaissFile:
    """A memory-mapped file, which is searched with little private memory."""

    def __init__(self, path: Path) -> None:
        """Map the file.

        Raises:
            IndexInvalid: the file cannot be read.
        """
        faiss = self._faiss = library()
        try:
            index = _mapped(faiss, path)
        except RuntimeError as error:
            hint = "remove this file; no row is lost, and the next build or add recreates it"
            reason = str(error).splitlines()[0]
            raise IndexInvalid(f"{path} cannot be read ({reason}): {hint}", where=path, hint=hint) from error
        self.numbers: Numbers = faiss.vector_to_array(index.id_map)
        self._whole = index  # keeps the mapped memory alive
        self._inner = faiss.downcast_index(index.index)
        self._lists = getattr(self._inner, "nlist", 0)
        self.kind = "ivf" if self._lists else "hnsw" if hasattr(self._inner, "hnsw") else "flat"

    def nearest(self, vector: Vectors, k: int, keep: NDArray[np.bool_] | None, *, exact: bool) -> Numbers:
        """Find the numbers of up to k nearest vectors.

        Args:
            vector: (dim,) float32.
            k: the number of vectors to find.
            keep: a mask of `numbers` that may be found; None: all.
            exact: compare with all of them.
        """
        limit = min(k, len(self.numbers) if keep is None else int(keep.sum()))
        if not limit:
            return self.numbers[:0]
        index = self._faiss.downcast_index(self._inner.storage) if exact and self.kind == "hnsw" else self._inner
        _, positions = index.search(vector[None], limit, params=self._params(limit, keep, exact=exact))
        found: Numbers = self.numbers[positions[0][positions[0] >= 0]]
        return found

    def _params(self, limit: int, keep: NDArray[np.bool_] | None, *, exact: bool) -> Any:  # noqa: ANN401
        words: dict[str, Any] = {}
        if keep is not None:
            words["sel"] = self._faiss.IDSelectorBitmap(np.packbits(keep, bitorder="little"))
        if self.kind == "ivf":
            nprobe = self._lists if exact else probes_for(self._lists)
            return self._faiss.SearchParametersIVF(nprobe=nprobe, **words)
        if self.kind == "hnsw" and not exact:
            return self._faiss.SearchParametersHNSW(efSearch=ef_for(self._inner.ntotal, limit), **words)
        return self._faiss.SearchParameters(**words)


def library() -> ModuleType:
    """Import FAISS.

    Raises:
        MissingExtra: it is not installed.
    """
    return require("faiss", extra="faiss")


def _mapped(faiss: ModuleType, path: Path) -> Any:  # noqa: ANN401
    """Map a file. Flat vectors and graphs need one flag, inverted lists another, and both together fail."""
    with path.open("rb") as file:
        head = file.read(4096)
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP if b"IwFl" in head else faiss.IO_FLAG_MMAP_IFC)


def _sample(blocks: Blocks, step: int) -> Vectors:
    return np.concatenate([vectors[::step] for _, vectors in blocks()])


def _fill(index: Any, path: Path, blocks: Blocks) -> None:  # noqa: ANN401
    for numbers, vectors in blocks():
        index.add_with_ids(np.ascontiguousarray(vectors), numbers)
    aside = path.with_suffix(".aside")
    try:
        library().write_index(index, str(aside))
        sync(aside)
    except BaseException:  # a full disk, say
        aside.unlink(missing_ok=True)
        raise
    aside.rename(path)
    sync(path.parent)
