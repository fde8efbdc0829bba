"""The stores that `stores.py` compares: filling them with vectors, and searching them at increasing ef."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Watched
from structured import Vectors

BATCH = 10_000
K = 10
EFS = (32, 96, 192, 288, 448, 704)


@dataclass(frozen=True)
class Asked:
    """A store that is ready. `search(ef)` returns a function that finds the positions of the ten nearest vectors."""

    efs: Sequence[int]
    search: Callable[[int], Callable[[Vectors], Sequence[int]]]
    close: Callable[[], object]


Store = Callable[[Vectors, Path], tuple[dict[str, float | None], Asked]]


def tuwen(pictures: Vectors, folder: Path) -> tuple[dict[str, float | None], Asked]:
    from search import Model, cold, rows_per_second
    from tuwen.index.index import VectorIndex
    from tuwen.index.stores import hnsw_ef

    place = folder / "bench.tuwen"
    with VectorIndex.create(place, encoder=Model(pictures.shape[1])) as index:
        rate = rows_per_second(index, pictures, BATCH)
        with Watched() as watched:
            start = time.perf_counter()
            index.optimize()
            build, size = time.perf_counter() - start, index.info().bytes
    alone = cold(place, pictures[:: max(1, len(pictures) // 200)])
    index = VectorIndex.open(place, encoder=None)

    def search(ef: int) -> Callable[[Vectors], Sequence[int]]:
        hnsw_ef.SHORT = hnsw_ef.LONG = ef  # constants of the index that grow with the rows, varied here for the curve
        hnsw_ef.GROWTH = 0.0
        return lambda vector: [int(str(hit.payload["name"])[2:-4]) for hit in index.search(vector, k=K)]

    facts = filled(rate, build, size, watched.cpu_seconds)
    return facts | {"own_mb": alone["anonymous_mb"], "open_s": alone["open_s"]}, Asked(EFS, search, index.close)


def faiss_hnsw(pictures: Vectors, folder: Path) -> tuple[dict[str, float | None], Asked]:
    import faiss

    index = faiss.IndexHNSWFlat(pictures.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    facts = faiss_filled(index, pictures, folder)

    def search(ef: int) -> Callable[[Vectors], Sequence[int]]:
        index.hnsw.efSearch = ef
        return lambda vector: index.search(vector[None], K)[1][0].tolist()

    return facts, Asked(EFS, search, index.reset)


def faiss_flat(pictures: Vectors, folder: Path) -> tuple[dict[str, float | None], Asked]:
    import faiss

    index = faiss.IndexFlatIP(pictures.shape[1])
    facts = faiss_filled(index, pictures, folder)
    return facts, Asked((0,), lambda _: lambda vector: index.search(vector[None], K)[1][0].tolist(), index.reset)


def faiss_filled(index: Any, pictures: Vectors, folder: Path) -> dict[str, float | None]:  # noqa: ANN401
    """FAISS builds its graph while it is filled."""
    import faiss

    with Watched() as watched:
        start = time.perf_counter()
        index.add(pictures)
        built = time.perf_counter()
    faiss.write_index(index, str(folder / "index.faiss"))
    size = (folder / "index.faiss").stat().st_size
    opening = f"import faiss, sys, time; s = time.perf_counter(); faiss.read_index({str(folder / 'index.faiss')!r}); "
    words = [sys.executable, "-c", opening + "print(time.perf_counter() - s)"]
    opened = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    facts = filled(len(pictures) / (built - start), 0.0, size, watched.cpu_seconds)
    return facts | {"own_mb": None, "open_s": opened}


def lancedb(pictures: Vectors, folder: Path) -> tuple[dict[str, float | None], Asked]:
    """IVF with HNSW over int8, as its documentation advises for speed; the ef is HNSW's ef."""
    import lancedb as lance
    import pyarrow as pa

    dim = pictures.shape[1]
    database, start = lance.connect(folder), time.perf_counter()
    schema = pa.schema({"id": pa.int64(), "path": pa.string(), "vector": pa.list_(pa.float32(), dim)})
    rows = database.create_table("pictures", schema=schema)
    for first in range(0, len(pictures), BATCH):
        part = pictures[first : first + BATCH]
        ids = range(first, first + len(part))
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), dim)
        rows.add(pa.table([pa.array(ids), [f"{i}.jpg" for i in ids], vectors], schema=schema))
    written = time.perf_counter()
    with Watched() as watched:
        rows.create_index(metric="dot", index_type="IVF_HNSW_SQ", num_partitions=max(1, len(pictures) // 250_000))
    built = time.perf_counter()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    opened = time.perf_counter()
    lance.connect(folder).open_table("pictures")
    facts = filled(len(pictures) / (written - start), built - written, size, watched.cpu_seconds)
    facts |= {"own_mb": None, "open_s": time.perf_counter() - opened}

    def search(ef: int) -> Callable[[Vectors], Sequence[int]]:
        def ask(vector: Vectors) -> list[int]:
            found = rows.search(vector).distance_type("dot").nprobes(20).ef(ef).refine_factor(2)
            return found.limit(K).select(["id", "_distance"]).to_arrow()["id"].to_pylist()  # type: ignore[no-any-return]

        return ask

    return facts, Asked(EFS, search, lambda: None)


def in_numpy(pictures: Vectors, folder: Path) -> tuple[dict[str, float | None], Asked]:  # noqa: ARG001
    def ask(vector: Vectors) -> list[int]:
        scores = pictures @ vector
        best = np.argpartition(-scores, K)[:K]
        return best.tolist()  # type: ignore[no-any-return]

    size = float(pictures.nbytes)
    return filled(None, 0.0, size, 0.0) | {"own_mb": None, "open_s": None}, Asked((0,), lambda _: ask, lambda: None)


def filled(rate: float | None, build: float, size: float, build_cpu: float) -> dict[str, float | None]:
    return {"rows_per_second": rate, "build_s": build, "build_cpu_s": build_cpu, "disk_mb": size / 2**20}


STORES: dict[str, Store] = {
    "tuwen": tuwen,
    "FAISS HNSW32": faiss_hnsw,
    "FAISS Flat": faiss_flat,
    "lancedb": lancedb,
    "numpy": in_numpy,
}
