"""Rows whose vectors are known already, written into an index: beside the bare engine with the same rows, in turns.

    python benchmarks/write.py --rows 40000 --json write.json

`bare` gives Qdrant Edge its own points: the same ids, vectors and payloads, in a shard with the same settings and
payload indexes, in batches of 4,096 with one flush each. `upsert` gives `VectorIndex.upsert` the same batches, `import`
is `tuwen index import` of an .npy file and of names, which are all the payload that it has.

Rates are by seconds of processor time, all threads together, so that other work on the machine counts less; `of bare`
is the median of the batches' own ratios, each batch written by all contenders in turn.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from measuring import finish, machine, table
from structured import make_collection

from search import Model, row
from tuwen.index.index import VectorIndex
from tuwen.index.store import row_id
from tuwen.index.stores import qdrant_edge_shard
from tuwen.interop.exchange import import_vectors
from tuwen.interop.vector_files import VectorFiles
from tuwen.types import Row

BATCH = 4_096
Write = Callable[[Sequence[Row]], object]


def main() -> None:
    arguments = parse()
    made = make_collection(arguments.rows, arguments.dim, 1)
    rows = [row(number, vector) for number, vector in enumerate(made.pictures)]
    batches = [rows[first : first + BATCH] for first in range(0, len(rows), BATCH)]
    with tempfile.TemporaryDirectory(dir=arguments.place) as folder:
        place = Path(folder)
        with VectorIndex.create(place / "upsert.tuwen", encoder=Model(arguments.dim)) as index:
            wide, short = bare(place / "bare", arguments.dim), bare(place / "named", arguments.dim)
            seen = take_turns(batches, {"bare": wide, "upsert": index.upsert})
        with VectorIndex.create(place / "import.tuwen", encoder=Model(arguments.dim)) as index:
            seen |= {f"{name}, names alone": it for name, it in imported(place, index, batches, short).items()}
    shown = [
        *lines(rows, {"bare": seen["bare"], "upsert": seen["upsert"]}),
        *lines(rows, {name: it for name, it in seen.items() if name.endswith("alone")}),
    ]
    print(table(shown))
    finish({"machine": machine(0), "rows": arguments.rows, "dim": arguments.dim, "lines": shown}, arguments.json)


def bare(folder: Path, dim: int) -> Write:
    """Qdrant Edge's own calls."""
    import qdrant_edge as edge

    qdrant_edge_shard.create(folder, dim)
    opened = qdrant_edge_shard.Shard(folder, patience=0.0)

    def write(rows: Sequence[Row]) -> None:
        points = [edge.Point(row_id(it.key), it.vector.tolist(), it.payload) for it in rows]
        with opened.calling() as shard:
            shard.update(edge.UpdateOperation.upsert_points(points))
            shard.flush()

    return write


def imported(place: Path, index: VectorIndex, batches: Sequence[Sequence[Row]], write: Write) -> dict[str, list[float]]:
    """Seconds for each batch as an .npy file of its own, and by the bare engine with the payload that this gives."""
    seconds: dict[str, list[float]] = {"bare": [], "import": []}
    for batch in batches:
        np.save(place / "batch.npy", np.stack([it.vector for it in batch]))
        (place / "batch.txt").write_text("\n".join(it.key for it in batch), encoding="utf-8")
        files = VectorFiles(place / "batch.npy", place / "batch.txt", None, texts=False)
        start = time.process_time()
        written = next(steps(files, index))
        seconds["import"].append(time.process_time() - start)
        assert written == len(batch)
        named = [Row(it.key, it.vector, {key: it.payload[key] for key in ("folder", "name", "path")}) for it in batch]
        start = time.process_time()
        write([Row(it.key, it.vector, {**it.payload, "type": "image"}) for it in named])
        seconds["bare"].append(time.process_time() - start)
    return seconds


def steps(files: VectorFiles, index: VectorIndex) -> Iterator[int]:
    """The rows that are written, without building the graph afterwards."""
    for done in import_vectors(files, index, key_column=None):
        if done.rows == BATCH or done.rows == files_rows(files):
            yield done.rows


def files_rows(files: VectorFiles) -> int:
    return len(np.load(files.path, mmap_mode="r"))


def take_turns(batches: Sequence[Sequence[Row]], contenders: dict[str, Write]) -> dict[str, list[float]]:
    """Seconds of processor time for each batch; who is first changes from batch to batch."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number, batch in enumerate(batches):
        for name in sorted(contenders, reverse=bool(number % 2)):
            start = time.process_time()
            contenders[name](batch)
            seconds[name].append(time.process_time() - start)
    return seconds


def lines(rows: Sequence[Row], seconds: dict[str, list[float]]) -> list[dict[str, object]]:
    """A line for each contender; the first is the floor."""
    floor = next(iter(seconds.values()))
    return [
        {
            "writes": name,
            "rows/s": len(rows) / sum(taken),
            "us a row": 1e6 * sum(taken) / len(rows),
            "of bare": statistics.median(least / mine for least, mine in zip(floor, taken, strict=True)),
        }
        for name, taken in seconds.items()
    ]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_960)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--place", type=Path, help="a folder on the disk to measure on")
    parser.add_argument("--json", type=Path, help="also write the result here")
    result: argparse.Namespace = parser.parse_args()
    return result


if __name__ == "__main__":
    main()
