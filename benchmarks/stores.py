"""One collection in several stores, in one run: tuwen's index beside FAISS, LanceDB and numpy.

    python benchmarks/stores.py --rows 1000000 --dim 512 --json stores.json --plot stores.png
    python benchmarks/stores.py --rows 20000 --without lancedb

Each store is filled, optimised, and searched with the same image-like and text-like queries at increasing ef. tuwen's
rows carry the payload of an image with its indexes, and are on disk when a call returns. FAISS and numpy keep only
vectors, in memory. LanceDB keeps vectors and paths on disk. All stores use all cores to build, and answer one query at
a time. `cpu_s` and `peak_mb` are of filling and building together: processor seconds, which other work on the machine
changes less than the others, and private memory beside the vectors that are stored.
LanceDB is not installed with tuwen: `pip install lancedb`.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Watched, finish, machine, table, timed
from numpy.typing import NDArray
from parts.stores import STORES, Asked
from structured import Collection, Vectors, make_collection, nearest

K = 10
KINDS = ("picture", "text")


def main() -> None:
    arguments = parse()
    made = make_collection(arguments.rows, arguments.dim, arguments.queries)
    truth = {kind: nearest(made.pictures, queries_of(made, kind), K)[0] for kind in KINDS}
    builds, searches = [], list[dict[str, Any]]()
    for name, store in STORES.items():
        if name in arguments.without:
            continue
        with tempfile.TemporaryDirectory(dir=arguments.place) as folder:
            print(f"{name}: filling", flush=True)
            with Watched() as watched:
                facts, asked = store(made.pictures, Path(folder))
            builds.append({"store": name, **facts, "cpu_s": watched.cpu_seconds, "peak_mb": watched.peak_mib})
            searches += (found := [{"store": name, **row} for row in curve(made, truth, asked)])
            print(table(builds[-1:]), table(found), sep="\n", flush=True)
            asked.close()
    print(table(builds))
    print(table(searches))
    if arguments.plot:
        plot(searches, arguments.rows, arguments.plot)
    facts = {"rows": arguments.rows, "dim": arguments.dim, "builds": builds, "searches": searches}
    finish({"machine": machine(0), **facts}, arguments.json)


def queries_of(made: Collection, kind: str) -> Vectors:
    return made.picture_queries if kind == "picture" else made.text_queries


def curve(
    made: Collection, truth: dict[str, NDArray[np.int64]], asked: Asked
) -> Iterator[dict[str, str | int | float]]:
    """Measure recall and latency at each ef; each query runs once to warm up and once timed."""
    for kind in KINDS:
        for ef in asked.efs:
            ask = asked.search(ef)
            timed(queries_of(made, kind), ask)
            seconds, found = timed(queries_of(made, kind), ask)
            hits = [len(set(ids) & set(best)) for ids, best in zip(found, truth[kind].tolist(), strict=True)]
            p50, p99 = (float(it) * 1e3 for it in np.percentile(seconds, [50, 99]))
            recall = sum(hits) / len(hits) / K
            yield {"query": kind, "effort": ef, "p50_ms": p50, "p99_ms": p99, "recall@10": recall}


def plot(searches: list[dict[str, Any]], rows: int, file: Path) -> None:
    """Plot recall against latency, one panel for each kind of query; better is up and to the left."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(KINDS), figsize=(10, 4.2), sharey=True, layout="constrained")
    for panel, kind in zip(panels, KINDS, strict=True):
        for name in dict.fromkeys(row["store"] for row in searches):
            points = [row for row in searches if row["store"] == name and row["query"] == kind]
            panel.plot([row["p50_ms"] for row in points], [row["recall@10"] for row in points], marker="o", label=name)
        panel.set(xscale="log", xlabel="p50 of a search, ms", title=f"{kind}-like queries, {rows:,} rows")
        panel.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("recall@10")
    panels[0].legend(fontsize="small")
    figure.savefig(file, dpi=110)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--without", nargs="*", default=[], choices=list(STORES), help="stores to leave out")
    parser.add_argument("--place", type=Path, help="a folder on the disk to measure on")
    parser.add_argument("--json", type=Path, help="a file for the results")
    parser.add_argument("--plot", type=Path, help="a picture of recall against latency")
    return parser.parse_args()


if __name__ == "__main__":
    main()
