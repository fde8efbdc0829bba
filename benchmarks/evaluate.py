"""Retrieval metrics at scale, on generated vectors: memory, and time beside the bare matrix product.

    python benchmarks/evaluate.py [--images 200000] [--captions 1000000] [--dim 512] [--folder FOLDER]

The vectors lie in files that are memory-mapped, as `tuwen evaluate --vectors` keeps them. Memory is what the process
holds itself; pages of mapped files belong to the system.
"""

import argparse
import re
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuwen.evaluation import metrics

BLOCK = 4096


def generated(file: Path, rows: int, dim: int, near: NDArray[np.float32] | None, seed: int) -> NDArray[np.float32]:
    """Unit rows in a file; captions lie near their images, so that ranks are neither all 1 nor at random."""
    chance = np.random.default_rng(seed)
    found = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(rows, dim))
    for first in range(0, rows, BLOCK):
        part = chance.standard_normal((min(BLOCK, rows - first), dim), dtype=np.float32)
        if near is not None:
            owners = np.arange(first, first + len(part)) * len(near) // rows
            part = 2.5 * part + np.sqrt(dim) * near[owners]
        found[first : first + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    found.flush()
    del found
    return np.load(file, mmap_mode="r")


def held() -> int:
    """Bytes that the process holds itself."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.findall(r"RssAnon:\s+(\d+)", status)[0])


def products(images: NDArray[np.float32], texts: NDArray[np.float32], blocks: int) -> float:
    """Seconds for one block of the bare matrix product, the fastest of several."""
    left, right = np.array(texts[:BLOCK]), np.array(images[:BLOCK])
    best = float("inf")
    for _ in range(blocks):
        start = time.perf_counter()
        _ = left @ right.T
        best = min(best, time.perf_counter() - start)
    return best


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
        bare = products(images, texts, 10) * asked.images * asked.captions / BLOCK**2
        most, done = [held()], threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                most.append(held())

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        result = metrics.retrieval(images, texts, owners, block=BLOCK)
        seconds = time.perf_counter() - start
        figures = result.metrics()
        done.set()
        watcher.join()
    print(f"{asked.images:,} images x {asked.captions:,} captions of {asked.dim} numbers")
    print(f"{seconds:.1f} s, {seconds / bare:.2f} times the bare matrix product ({bare:.1f} s)")
    print(f"memory: {max(most) / 2**30:.2f} GiB")
    print(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
