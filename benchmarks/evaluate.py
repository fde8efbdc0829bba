"""Retrieval metrics at scale, on generated vectors: memory, and time beside the bare matrix product.

    python benchmarks/evaluate.py [--images 200000] [--captions 1000000] [--dim 512] [--folder FOLDER]
                                  [--ratios | --seconds N]

The vectors lie in files that are memory-mapped, as `tuwen evaluate --vectors` keeps them. Memory is given twice:
what the process holds itself, and with the pages of the mapped files that are in memory, which the system takes back
when it needs them. The peak depends on the number of rows, a few numbers each, not on the number of products. Ratios
to the bare product are measured on a part, in turns, and on two kinds of captions: near their images, and unrelated
to them, where every second score is counted. `--ratios` measures these alone. With `--seconds`, ranks are counted for
so long, with all vectors mapped; the rest of the time is worked out, and the figures are of ranks drawn at random.
"""

import argparse
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from measuring import take_turns
from numpy.typing import NDArray

from tuwen.evaluation import metrics

BLOCK = 4096
"""of the bare product: of 1,024, 2,048 and 4,096 the fastest"""

NOISE = 5.0
"""of captions near their images: ranks are neither all 1 nor at random"""
SOME, ROUNDS = 4096, 3
"""images, and rounds, that ratios are measured with"""


def generated(
    file: Path, rows: int, dim: int, near: NDArray[np.float32] | None, seed: int, noise: float = NOISE
) -> NDArray[np.float32]:
    """Unit rows in a file, at random, or near the images that they belong to."""
    chance = np.random.default_rng(seed)
    found = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(rows, dim))
    for first in range(0, rows, BLOCK):
        part = chance.standard_normal((min(BLOCK, rows - first), dim), dtype=np.float32)
        if near is not None:
            owners = np.arange(first, first + len(part)) * len(near) // rows
            part = noise * part + np.sqrt(dim) * near[owners]
        found[first : first + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    found.flush()
    del found
    return np.load(file, mmap_mode="r")


def held() -> tuple[int, int]:
    """Bytes that the process holds itself, and with the pages of mapped files."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    own, whole = (1024 * int(re.findall(rf"{name}:\s+(\d+)", status)[0]) for name in ("RssAnon", "VmRSS"))
    return own, whole


def ratio(folder: Path, dim: int, captions: int, noise: float) -> float:
    """How much longer ranks take than the bare products of the same blocks, in turns; so many captions an image."""
    images = generated(folder / "some-images.npy", SOME, dim, None, 2)
    texts = generated(folder / "some-texts.npy", captions * SOME, dim, images, 3, noise)
    owners = np.arange(len(texts)) // captions
    product = np.empty((BLOCK, BLOCK), dtype=np.float32)

    def bare(_turn: int) -> None:
        for left in range(0, len(texts), BLOCK):
            for right in range(0, len(images), BLOCK):
                np.matmul(texts[left : left + BLOCK], images[right : right + BLOCK].T, out=product)

    timings = take_turns({"bare": bare, "ranks": lambda _: metrics.retrieval(images, texts, owners)}, ROUNDS)
    return timings["bare"].faster_than(timings["ranks"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--captions", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--ratios", action="store_true")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        if asked.seconds < float("inf"):
            at_scale(Path(folder), asked.images, asked.captions, asked.dim, asked.seconds)
            return
        for count in (1, 5):
            for kind, noise in (("near it", NOISE), ("unrelated", 1000.0)):
                value = ratio(Path(folder), asked.dim, count, noise)
                print(f"{value:.2f} times the bare matrix product: {count} caption(s) an image, {kind}", flush=True)
        if not asked.ratios:
            at_scale(Path(folder), asked.images, asked.captions, asked.dim, asked.seconds)


class Enough(Exception):
    """Ranks have been counted for as long as was asked."""


def at_scale(folder: Path, count: int, captions: int, dim: int, most_seconds: float) -> None:
    images = generated(folder / "images.npy", count, dim, None, 0)
    texts = generated(folder / "texts.npy", captions, dim, images, 1)
    owners = np.arange(captions) * count // captions
    most, done = [held()], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            most.append(held())

    def shown(ranked: int, total: int) -> None:
        print(f"\r{ranked:,} of {total:,} captions", end="\n" if ranked == total else "", file=sys.stderr, flush=True)
        counted.append((ranked, time.perf_counter(), time.process_time()))
        if time.perf_counter() - start > most_seconds:
            raise Enough

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, counted = time.perf_counter(), list[tuple[int, float, float]]()
    try:
        result = metrics.retrieval(images, texts, owners, on_progress=shown)
    except Enough:
        chance = np.random.default_rng(2)
        result = metrics.Retrieval(count, owners, *chance.integers(1, count, (2, captions)))
    seconds = time.perf_counter() - start
    figures = result.metrics()
    done.set()
    watcher.join()
    own, whole = (max(values) / 2**30 for values in zip(*most, strict=True))
    print(f"{count:,} images x {captions:,} captions of {dim} numbers")
    print(f"{seconds:.1f} s, memory {own:.2f} GiB, with mapped files {whole:.2f} GiB")
    (first, *begun), (last, *ended) = counted[0], counted[-1]
    elapsed, busy = ((end - begin) * captions / (last - first) for begin, end in zip(begun, ended, strict=True))
    print(f"{last:,} captions ranked; at this rate all take {elapsed:.0f} s, and {busy:.0f} s of processor time")
    print(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
