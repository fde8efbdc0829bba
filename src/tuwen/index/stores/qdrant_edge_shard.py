"""A Qdrant Edge shard: its settings, creating and opening it, sharing it among threads, building its graph.

    python -m tuwen.index.stores.qdrant_edge_shard PARENT SHARD DIM INT8

builds the graph in a separate process, because it would hold the interpreter lock of the calling process for minutes,
without progress, Ctrl-C or other threads. On Linux it ends with the calling process; elsewhere it finishes its work.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tuwen.errors import IndexFault, IndexInvalid, IndexLocked
from tuwen.index.filters import FIELDS, SCANNED
from tuwen.index.space import ROOM, disk_full, is_disk_full

if TYPE_CHECKING:
    from qdrant_edge import (
        EdgeConfig,
        EdgeShard,
        FloatIndexParams,
        GeoIndexParams,
        IntegerIndexParams,
        KeywordIndexParams,
    )

GRAPH_ABOVE = 20_000
"""number of rows above which a graph is built: an exhaustive search of 20,000 takes 2 to 3 ms, building a graph 9 s"""
PLACE_FIELD = "_place"
"""the field with latitude and longitude together, for filters by distance"""
LINKS, CANDIDATES = 24, 200
"""HNSW's m and ef_construct"""
POLL = 0.05
"""seconds between two attempts to open a shard that is in use"""
_ANY_SIZE = 10**9
_DIE_WITH_PARENT = 1
"""Linux's PR_SET_PDEATHSIG"""


class Shard:
    """An open shard, used by one thread at a time."""

    def __init__(self, folder: Path, patience: float) -> None:
        """Open a shard that `create` has made, see `QdrantStore`."""
        self._folder = folder
        self._lock = threading.RLock()
        self._open: EdgeShard | None = _load_patiently(folder, patience)

    @contextmanager
    def calling(self) -> "Iterator[EdgeShard]":
        """Give one thread at a time access to the shard, and turn its exceptions into IndexFault."""
        with self._lock:
            if self._open is None:
                raise IndexFault(f"{self._folder.parent} is closed; open it again", where=self._folder.parent)
            try:
                yield self._open
            except Exception as error:
                if type(error) is not Exception:  # the shard raises only this class
                    raise
                if is_disk_full(error):
                    raise disk_full(self._folder.parent) from error
                raise IndexFault(f"{self._folder.parent}: {error}", where=self._folder.parent) from error

    @contextmanager
    def away(self) -> Iterator[Path]:
        """Close the shard for the duration of the block, which gets its folder; other threads wait."""
        with self._lock:
            self.close()
            try:
                yield self._folder
            finally:
                self._open = _load_patiently(self._folder, patience=10.0)

    def keeps_int8(self) -> bool:
        """Whether the shard also stores vectors as int8."""
        return bool(json.loads((self._folder / "edge_config.json").read_bytes()).get("quantization_config"))

    def close(self) -> None:
        """Release all files. May be called twice."""
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None


def create(folder: Path, dim: int, *, flat: bool = False) -> None:
    """Create an empty shard with its payload indexes on disk. `flat`: it never builds a graph."""
    import qdrant_edge as edge

    folder.mkdir()
    shard = edge.EdgeShard.create(str(folder), _settings(dim, int8=False, flat=flat))
    _index_fields(shard)
    shard.close()


def optimize(folder: Path, dim: int, *, int8: bool) -> None:
    """Build the graph of a shard that no process has open. A kill loses no rows.

    Args:
        folder: the shard's folder.
        dim: the dimension of the vectors.
        int8: also store vectors as int8 from now on; False keeps the current setting.
    """
    import qdrant_edge as edge

    shard = edge.EdgeShard.load(str(folder), _settings(dim, int8=int8))
    shard.optimize()
    shard.close()


def _settings(dim: int, *, int8: bool, flat: bool = False) -> "EdgeConfig":
    """The settings of a shard: everything is on disk and memory-mapped, so searches need little private memory."""
    import qdrant_edge as edge

    cold = edge.Memory.Cold
    kilobytes = _ANY_SIZE if flat else GRAPH_ABOVE * dim * 4 // 1024
    quantization = edge.ScalarQuantizationConfig(edge.ScalarType.Int8, quantile=0.99, memory=cold)
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(dim, edge.Distance.Dot, memory=cold),
        hnsw_config=edge.HnswIndexConfig(LINKS, CANDIDATES, max(1, kilobytes // 4), memory=cold),
        quantization_config=quantization if int8 else None,
        payload_memory=cold,
        id_tracker_memory=cold,
        optimizers=edge.EdgeOptimizersConfig(
            default_segment_number=3,  # what is new, what is old, and what is between: adding never rebuilds all
            max_segment_size=_ANY_SIZE,
            indexing_threshold=max(1, kilobytes),
        ),
    )


def _index_fields(shard: "EdgeShard") -> None:
    """Create the payload indexes that are missing: all of a new shard, those of newer fields of an older one."""
    import qdrant_edge as edge

    there = shard.info().payload_schema
    missing = [field for field in (*FIELDS, PLACE_FIELD) if field not in (*SCANNED, *there)]
    for field in missing:
        index = _payload_index(FIELDS[field]) if field in FIELDS else _place_index()
        shard.update(edge.UpdateOperation.create_field_index(field, index))
    if missing:
        shard.flush()


def _place_index() -> "GeoIndexParams":
    import qdrant_edge as edge

    return edge.GeoIndexParams(enable_hnsw=False, memory=edge.Memory.Cold)


def _payload_index(kind: type) -> "KeywordIndexParams | IntegerIndexParams | FloatIndexParams":
    """The index of a field, without additional graph links: they triple the time to build it, see docs/log.md."""
    import qdrant_edge as edge

    cold = edge.Memory.Cold
    if kind is str:
        return edge.KeywordIndexParams(prefix=True, enable_hnsw=False, memory=cold)
    if kind is int:
        return edge.IntegerIndexParams(lookup=False, range=True, enable_hnsw=False, memory=cold)
    return edge.FloatIndexParams(enable_hnsw=False, memory=cold)


def _load_patiently(folder: Path, patience: float) -> "EdgeShard":
    """Open a shard, waiting for other processes, and remove the remains of a killed optimisation."""
    import qdrant_edge as edge

    deadline = time.monotonic() + patience
    while True:
        try:
            shard = edge.EdgeShard.load(str(folder))
        except Exception as error:
            fault = _fault(folder, error, patience)
            if isinstance(fault, IndexInvalid) or time.monotonic() >= deadline:
                raise fault from error
        else:
            for left in (folder / "temp_segments").glob("*"):
                shutil.rmtree(left, ignore_errors=True)
            if shutil.disk_usage(folder).free > ROOM:  # a full disk can be searched
                _index_fields(shard)
            return shard
        time.sleep(POLL)


def _fault(folder: Path, error: Exception, patience: float) -> IndexFault:
    index = folder.parent
    if "WouldBlock" in str(error):
        return IndexLocked(
            f"{index} is in use by a process that builds its graph; waited {patience:g} s, try again later", where=index
        )
    hint = "restore a copy of the folder, or build the index again"
    return IndexInvalid(f"{index}: its rows cannot be read ({error}); {hint}", where=index, hint=hint)


def build(shard: Path, dim: int, *, int8: bool) -> None:
    """Run `optimize` in another process; the shard must not be open in this one.

    Raises:
        IndexFault: it failed; no row is lost.
    """
    words = (os.getpid(), shard, dim, int(int8))
    command = [sys.executable, "-P", "-m", "tuwen.index.stores.qdrant_edge_shard", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, stderr = child.communicate()
    except BaseException:
        child.kill()
        child.communicate()
        raise
    if child.returncode == -getattr(signal, "SIGBUS", 0):  # what it has mapped could not grow
        raise disk_full(shard.parent)
    if child.returncode:
        last = (stderr.decode(errors="replace").strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise IndexFault(
            f"{shard.parent}: building the graph failed ({last}); no row is lost, try again", where=shard.parent
        )


def main() -> None:
    """Build a graph in the separate process."""
    parent, folder, dim, int8 = sys.argv[1:]
    _end_with(int(parent))
    optimize(Path(folder), int(dim), int8=int8 == "1")


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it has already ended
        sys.exit("the calling process has ended")


if __name__ == "__main__":
    main()
