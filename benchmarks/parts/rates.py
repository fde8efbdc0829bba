"""What an encoder does by itself, in a process of its own: prints a JSON line with its rate and what an input costs.

    python benchmarks/parts/rates.py MODEL text|picture BATCH FULL SECONDS FILE [INDEX]

FILE has a text, or the path of a picture, a line. Pictures are decoded and encoded one after the other, so that the
cost of each is known by itself. FULL is the largest batch of the service, timed as well. With INDEX, the index is also
searched by the texts' vectors, one at a time, for ten hits each.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np

import tuwen
from tuwen.index.index import VectorIndex


def main() -> None:
    model, kind, batch, full, seconds, file, *index = sys.argv[1:]
    lines = Path(file).read_text("utf-8").splitlines()
    encoder = tuwen.load(model)
    run = texts if kind == "text" else pictures
    whole = run(encoder, lines, int(full), 0.0)
    found = {**run(encoder, lines, int(batch), float(seconds)), "full_batch_s": whole["seconds_a_batch"]}
    found["query_cpu_ms"] = queries(encoder, lines[:1000], Path(index[0]), float(seconds)) if index else 0.0
    print(json.dumps(found))


def texts(encoder: tuwen.Encoder, lines: Sequence[str], batch: int, seconds: float) -> dict[str, float]:
    """Texts to vectors, in batches of one size."""
    endless = cycle(lines)
    wall, processor, times = measured(lambda: encoder.encode_texts(list(islice(endless, batch))), seconds)
    inputs = times * batch
    return {"per_second": inputs / wall, "cpu_ms": 1e3 * processor / inputs, "seconds_a_batch": wall / times}


def pictures(encoder: tuwen.Encoder, paths: Sequence[str], batch: int, seconds: float) -> dict[str, float]:
    """Files to vectors: the rate on these cores if decoding keeps all of them busy, and then encoding."""
    endless = cycle([Path(path).read_bytes() for path in paths])
    wall, processor, times = measured(lambda: encoder.decode(next(endless), ""), seconds / 4)
    decoding = processor / times
    pixels = np.concatenate([encoder.decode(next(endless), "").pixels for _ in range(batch)])  # type: ignore[union-attr]
    wall, processor, times = measured(lambda: encoder.encode_pixels(pixels), seconds)
    inputs = times * batch
    per_input = decoding / encoder.threads + wall / inputs
    cpu = decoding + processor / inputs
    return {"per_second": 1 / per_input, "cpu_ms": 1e3 * cpu, "seconds_a_batch": wall / times}


def queries(encoder: tuwen.Encoder, lines: Sequence[str], folder: Path, seconds: float) -> float:
    """Milliseconds of processor time of a search of the index by a vector."""
    endless = cycle(encoder.encode_texts(list(lines)))
    with VectorIndex.open(folder, encoder=encoder) as index:
        _, processor, times = measured(lambda: index.search(next(endless), k=10), seconds)
    return 1e3 * processor / times


def measured(call: Callable[[], object], seconds: float) -> tuple[float, float, int]:
    """Call again and again, after twice that are not counted: seconds by the clock, of processor time, and calls."""
    call(), call()
    start, before, times = time.perf_counter(), time.process_time(), 0
    while not times or time.perf_counter() - start < seconds:
        call()
        times += 1
    return time.perf_counter() - start, time.process_time() - before, times


if __name__ == "__main__":
    main()
