"""How long `tuwen index duplicates` takes, and whether it finds what was planted: copies a little off originals.

    python benchmarks/duplicates.py [--rows 50000] [--dim 512] [--threshold 0.97]

One row in twenty is such a copy. The index is built and optimised first; that is not counted.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass

import numpy as np
from structured import Vectors, make_collection, unit

from tuwen.index.index import VectorIndex
from tuwen.search.duplicates import Duplicates
from tuwen.types import Row

PAGE = 5_000


@dataclass
class Model:
    dim: int
    name: str = "none"
    fingerprint: str = "0" * 16
    precision: str = "fp32"


def planted(rows: int, dim: int) -> tuple[Vectors, int]:
    """Vectors, of which the last ones are copies of the first ones; and how many these are."""
    vectors = make_collection(rows, dim, 1).pictures
    copies = rows // 20
    noise = np.random.default_rng(1).normal(scale=0.1 / np.sqrt(dim), size=(copies, dim))
    vectors[-copies:] = unit(vectors[:copies] + noise)
    return vectors, copies


def fill(index: VectorIndex, vectors: Vectors) -> None:
    for start in range(0, len(vectors), PAGE):
        page = enumerate(vectors[start : start + PAGE], start)
        index.upsert([Row(f"{i}.jpg", vector, {"content": str(i), "width": 1, "height": 1}) for i, vector in page])
    index.optimize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--threshold", type=float, default=0.97)
    asked = parser.parse_args()
    vectors, copies = planted(asked.rows, asked.dim)
    with (
        tempfile.TemporaryDirectory() as folder,
        VectorIndex.create(f"{folder}/i.tuwen", encoder=Model(asked.dim)) as index,
    ):
        fill(index, vectors)
        start = time.perf_counter()
        search = Duplicates(index, asked.threshold)
        for _ in search:
            pass
        groups = search.groups()
        seconds = time.perf_counter() - start
    joined = {frozenset(str(row.payload["path"]) for row in group) for group in groups}
    found = sum(any({f"{i}.jpg", f"{asked.rows - copies + i}.jpg"} <= group for group in joined) for i in range(copies))
    print(f"{asked.rows:,} rows: {seconds:.1f} s, {len(groups):,} groups, {found:,} of {copies:,} copies found")


if __name__ == "__main__":
    main()
