"""One index: how fast rows go in, how long its graph takes, how fast and how well it is searched, in this process.

    python benchmarks/search.py --rows 100000 --dim 512 --json search.json

Exact results are numpy's. Times of a search are of `Index.search` whole: the vector checked, ten payloads read.
Opening, the first search and memory are those of a process of its own. Rates of writing depend on the disk: every
1,000 rows are put on it.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import finish, machine, table, timed
from numpy.typing import NDArray
from structured import Collection, Vectors, make_collection, nearest

from tuwen.index.index import VectorIndex
from tuwen.types import Hit, Row

BATCH = 1_000
K = 10
WIDTHS = 4_000
NARROWER = {"half of the rows": WIDTHS // 2, "a tenth": WIDTHS // 10, "a hundredth": WIDTHS // 100}
COLD = """
import json, sys, time
start = time.perf_counter()
import numpy as np
from tuwen.index.index import VectorIndex
imported = time.perf_counter()
with VectorIndex.open(sys.argv[1], encoder=None) as index:
    opened = time.perf_counter()
    vectors = np.load(sys.argv[2])
    index.search(vectors[0])
    first = time.perf_counter()
    for vector in vectors:
        index.search(vector)
    memory = dict(line.split(":") for line in open("/proc/self/status") if line.startswith("Rss"))
print(json.dumps({"import_s": imported - start, "open_s": opened - imported, "first_search_s": first - opened,
                  "anonymous_mb": int(memory["RssAnon"].split()[0]) / 1024,
                  "file_mb": int(memory["RssFile"].split()[0]) / 1024}))
"""


@dataclass
class Model:
    """What an index knows of an encoder."""

    dim: int
    name: str = "structured vectors"
    fingerprint: str = "0" * 16
    precision: str = "fp32"


def main() -> None:
    arguments = parse()
    made = make_collection(arguments.rows, arguments.dim, arguments.queries)
    with tempfile.TemporaryDirectory(dir=arguments.place) as place:
        folder = Path(place) / "bench.tuwen"
        with VectorIndex.create(folder, encoder=Model(arguments.dim), quantize_above=arguments.quantize_above) as index:
            facts = fill(index, made.pictures)
        facts |= cold(folder, made.text_queries)
        with VectorIndex.open(folder, encoder=None) as index:
            rows = [row for query in ("picture", "text") for row in searches(index, made, query)]
            facts |= look_ups(index, arguments.rows)
    print(table([{name: round(value, 3) for name, value in facts.items()}]))
    print(table(rows))
    finish({"machine": machine(0), **vars(arguments) | {"json": None}, **facts, "searches": rows}, arguments.json)


def fill(index: VectorIndex, pictures: Vectors) -> dict[str, float]:
    rate = rows_per_second(index, pictures, BATCH)
    start = time.perf_counter()
    index.optimize()
    return {
        "rows_per_second": rate,
        "build_s": time.perf_counter() - start,
        "disk_mb": index.info().bytes / 2**20,
    }


def rows_per_second(index: VectorIndex, pictures: Vectors, batch: int) -> float:
    """Of `upsert` alone: the rows are made outside the clock."""
    seconds = 0.0
    for first in range(0, len(pictures), batch):
        rows = [row(i, pictures[i]) for i in range(first, min(first + batch, len(pictures)))]
        start = time.perf_counter()
        index.upsert(rows)
        seconds += time.perf_counter() - start
    return len(pictures) / seconds


def row(i: int, vector: Vectors) -> Row:
    facts = {"width": i * 2_654_435_761 % WIDTHS, "height": i % 3_000, "format": ("JPEG", "PNG", "HEIC")[i % 3]}
    key = f"{2000 + i % 25}/{i % 12}/图 {i}.jpg"
    folder, _, name = key.rpartition("/")
    content = hashlib.sha256(key.encode()).hexdigest()
    stamp = {"modified": 1.6e9 + i * 1.234567, "bytes": 1_000_000 + i}
    return Row(key, vector, {"path": key, "folder": folder, "name": name, "content": content, **facts, **stamp})


def searches(index: VectorIndex, made: Collection, query: str) -> list[dict[str, Any]]:
    queries = made.picture_queries if query == "picture" else made.text_queries
    widths = np.array([row(i, made.pictures[i]).payload["width"] for i in range(len(made.pictures))])
    everything = np.arange(len(widths))
    found = {
        "plain": measure(made.pictures, queries, everything, index.search),
        "exact": measure(made.pictures, queries, everything, lambda vector: index.search(vector, exact=True)),
    }
    for name, width in NARROWER.items():
        search = partial(index.search, where=f"width < {width}")
        found[name] = measure(made.pictures, queries, np.flatnonzero(widths < width), search)
    return [{"query": query, "search": name, **figures} for name, figures in found.items()]


def measure(
    pictures: Vectors, queries: Vectors, kept: NDArray[np.int64], search: Callable[[Vectors], list[Hit]]
) -> dict[str, float]:
    """Each query once to warm up and once timed; recall@10 and the largest error of a score against numpy."""
    places, cosines = nearest(pictures[kept], queries, K)
    timed(queries, search)
    seconds, found = timed(queries, search)
    recalls, errors = [], [0.0]
    for hits, best, scores in zip(found, kept[places], cosines, strict=True):
        exact = dict(zip(best.tolist(), scores.tolist(), strict=True))
        at = {int(str(hit.payload["name"])[2:-4]): hit.score for hit in hits}
        recalls.append(len(at.keys() & exact.keys()) / K)
        errors += [abs(score - exact[i]) for i, score in at.items() if i in exact]
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    return {"p50_ms": p50, "p99_ms": p99, "recall@10": float(np.mean(recalls)), "worst_score": max(errors)}


def look_ups(index: VectorIndex, rows: int) -> dict[str, float]:
    """What a second build of the same folder asks: the payloads of all keys; and a list of all rows."""
    keys = [f"{2000 + i % 25}/{i % 12}/图 {i}.jpg" for i in range(rows)]
    start = time.perf_counter()
    found = index.payloads(keys)
    read = time.perf_counter()
    listed = sum(1 for _ in index.list())
    done = time.perf_counter()
    index.vectors_of([str(it["content"]) for it in list(found.values())[:BATCH]])
    assert len(found) == listed == rows
    return {
        "payloads_s": read - start,
        "list_s": done - read,
        "1000_vectors_by_content_s": time.perf_counter() - done,
    }


def cold(folder: Path, queries: Vectors) -> dict[str, float]:
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, queries[:200])
        file.flush()
        done = subprocess.run(
            [sys.executable, "-c", COLD, str(folder), file.name], capture_output=True, text=True, check=True
        )
    facts: dict[str, float] = json.loads(done.stdout)
    return facts


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--quantize-above", type=int, default=50_000)
    parser.add_argument("--place", type=Path, help="a folder on the disk to measure on")
    parser.add_argument("--json", type=Path, help="a file for the results")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
