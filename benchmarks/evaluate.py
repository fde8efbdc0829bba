"""Retrieval metrics at scale, on generated vectors: memory, and time beside the bare matrix product.

    python benchmarks/evaluate.py [--images 200000] [--captions 1000000] [--dim 512] [--folder FOLDER]

The vectors lie in files that are memory-mapped, as `tuwen evaluate --vectors` keeps them. Memory is what the process
holds itself; pages of mapped files belong to the system. The peak depends on the number of rows, a few numbers
each, not on the number of products. Ratios to the bare product are measured on a part, in turns, and on two kinds
of captions: near their images, and unrelated to them, where every second score is counted.
"""

import argparse
import re
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from measuring import take_turns
from numpy.typing import NDArray

from tuwen.evaluation import metrics

BLOCK = 4096


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


def held() -> int:
    """Bytes that the process holds itself."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.findall(r"RssAnon:\s+(\d+)", status)[0])


def ratio(folder: Path, dim: int, captions: int, noise: float) -> float:
    """How much longer ranks take than the bare products of the same blocks, in turns; so many captions an image."""
    images = generated(folder / "some-images.npy", SOME, dim, None, 2)
    texts = generated(folder / "some-texts.npy", captions * SOME, dim, images, 3, noise)
    owners = np.arange(len(texts)) // captions

    def bare(_turn: int) -> None:
        for left in range(0, len(texts), BLOCK):
            for right in range(0, len(images), BLOCK):
                _ = texts[left : left + BLOCK] @ images[right : right + BLOCK].T

    timings = take_turns({"bare": bare, "ranks": lambda _: metrics.retrieval(images, texts, owners)}, ROUNDS)
    return timings["bare"].faster_than(timings["ranks"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--captions", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        images = generated(Path(folder) / "images.npy", asked.images, asked.dim, None, 0)
        texts = generated(Path(folder) / "texts.npy", asked.captions, asked.dim, images, 1)
        owners = np.arange(asked.captions) * asked.images // asked.captions
        ratios = {
            f"{count} caption(s) an image, {kind}": ratio(Path(folder), asked.dim, count, noise)
            for count in (1, 5)
            for kind, noise in (("near it", NOISE), ("unrelated", 1000.0))
        }
        most, done = [held()], threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                most.append(held())

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        result = metrics.retrieval(images, texts, owners)
        seconds = time.perf_counter() - start
        figures = result.metrics()
        done.set()
        watcher.join()
    print(f"{asked.images:,} images x {asked.captions:,} captions of {asked.dim} numbers")
    print(f"{seconds:.1f} s, memory {max(most) / 2**30:.2f} GiB")
    for name, value in ratios.items():
        print(f"{value:.2f} times the bare matrix product: {name}")
    print(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
