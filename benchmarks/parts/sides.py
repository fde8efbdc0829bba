"""One side of `ingest.py` or `embed.py`, in a process of its own: prints a JSON line with the seconds that it took, and
the seconds of processor time, in all its threads and workers.

python benchmarks/parts/sides.py SIDE PHOTOS MODEL STORE THREADS
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tuwen.ingest.images import IngestReport
    from tuwen.runtime.encoder import Encoder

BATCH = 32
Taken = dict[str, float]


def clock() -> Taken:
    return {"seconds": time.perf_counter(), "processor": sum(os.times()[:4])}


def since(start: Taken) -> Taken:
    return {name: value - start[name] for name, value in clock().items()}


def tuwen_side(photos: Path, model: str, store: Path, threads: int) -> Taken:
    """Files to rows by tuwen, the index closed."""
    encoder = warm(model, threads)
    start = clock()
    for _ in run_ingest(photos, encoder, store):
        pass
    return since(start)


def open_clip_side(photos: Path, _: str, store: Path, threads: int) -> Taken:
    """Files to a numpy file, as open_clip's users do it."""
    import torch
    from PIL import Image

    from tuwen.models.openclip import load
    from tuwen.models.torchvision import import_open_clip

    open_clip = import_open_clip()
    torch.set_num_threads(threads)
    towers = load("ViT-B-32")
    transform = open_clip.image_transform(224, is_train=False)
    paths = sorted(photos.rglob("*.jpg"))

    class Photos(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            return transform(Image.open(paths[index]))

    with torch.inference_mode():
        towers.vision(torch.zeros(BATCH, 3, 224, 224))
        start = clock()
        rows = np.lib.format.open_memmap(store, mode="w+", dtype=np.float32, shape=(len(paths), 512))
        done = 0
        for pixels in torch.utils.data.DataLoader(Photos(), batch_size=BATCH, num_workers=2):
            vectors = torch.nn.functional.normalize(towers.vision(pixels), dim=-1)
            rows[done : done + len(vectors)] = vectors.numpy()
            done += len(vectors)
        rows.flush()
        return since(start)


def decoding_side(photos: Path, model: str, _: Path, threads: int) -> Taken:
    """Files to pixels, nothing else."""
    from tuwen.data.decode import read_image
    from tuwen.data.pixels import to_pixels

    encoder = warm(model, threads)

    def prepare(path: Path) -> np.ndarray:
        return to_pixels(encoder.image_spec, [read_image(path.read_bytes(), path.name, encoder.reading).image])

    with ThreadPoolExecutor(threads) as pool:
        start = clock()
        for _ in pool.map(prepare, sorted(photos.rglob("*.jpg"))):
            pass
        return since(start)


def model_side(photos: Path, model: str, _: Path, threads: int) -> Taken:
    """As many pictures' pixels to vectors, nothing else."""
    encoder = warm(model, threads)
    pixels = np.zeros((BATCH, 3, *encoder.image_spec.size), dtype=np.float32)
    count = len(list(photos.rglob("*.jpg")))
    start = clock()
    for done in range(0, count, BATCH):
        encoder.encode_pixels(pixels[: count - done])
    return since(start)


def embed_side(samples: Path, model: str, store: Path, threads: int) -> Taken:
    """A whole bulk job: listed, embedded, written and reported; packages are loaded before, as the model is."""
    from functools import partial

    import pyarrow.parquet  # noqa: F401

    from tuwen.bulk.embed import Request, embed_all
    from tuwen.bulk.embedding import embed
    from tuwen.data.samples import Columns

    encoder = warm(model, threads)
    request = Request([samples], store, "clip-retrieval", None, "float16", 10_000, Columns(), {})
    engine = partial(embed, encoder=encoder)
    start = clock()
    for _ in embed_all(request, encoder, engine):
        pass
    return since(start)


def memory_side(photos: Path, model: str, store: Path, threads: int) -> list[dict[str, float]]:
    """Rows and resident MiB after every batch, see `resident`."""
    encoder = warm(model, threads)
    return [{"rows": report.rows, **resident()} for report in run_ingest(photos, encoder, store)]


def run_ingest(photos: Path, encoder: "Encoder", store: Path) -> "Iterator[IngestReport]":
    from tuwen.index.index import VectorIndex
    from tuwen.ingest.images import ingest

    with VectorIndex.create(store, encoder=encoder, root=photos) as index:
        yield from ingest([photos], encoder, index)


def warm(model: str, threads: int) -> "Encoder":
    """A model that has run once; what computes it fastest is measured before, as every long job does."""
    import tuwen

    encoder = tuwen.load(model, threads=threads, measure=True)
    encoder.encode_pixels(np.zeros((BATCH, 3, *encoder.image_spec.size), dtype=np.float32))
    return encoder


def resident() -> dict[str, float]:
    """This process' resident memory in MiB: its own, and pages of files that it has mapped.

    The latter are the system's to take back whenever memory is short: the store maps its files.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {
        name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines if line.startswith("Rss"))
    }
    return {"own": kilobytes["RssAnon"] / 1024, "mapped": (kilobytes["RssFile"] + kilobytes["RssShmem"]) / 1024}


SIDES: dict[str, Callable[[Path, str, Path, int], Taken]] = {
    "tuwen": tuwen_side,
    "open_clip": open_clip_side,
    "decoding alone": decoding_side,
    "model alone": model_side,
    "embed": embed_side,
}

if __name__ == "__main__":
    side, photos, model, store, threads = sys.argv[1:]
    given = (Path(photos), model, Path(store), int(threads))
    if side == "memory":
        print(json.dumps({"samples": memory_side(*given)}))
    else:
        print(json.dumps(SIDES[side](*given)))
