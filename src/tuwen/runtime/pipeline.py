"""The pipeline that every bulk operation shares: read and decode in threads, encode in another, keep the order.

    items --prepare (threads)--> prepared --batches--> batches --encode (one thread)--> results

Each stage runs ahead of the next by a bounded number of items, so memory does not grow with the input. Items and
batches are drawn by the consumer's thread alone, so generators between the stages need no lock. A consumer that
stops early (`close()`, an exception, Ctrl-C) waits for what is running and drops the rest.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from PIL import Image

from tuwen.data.datasets import Example
from tuwen.data.files import Skipped
from tuwen.data.samples import Sample
from tuwen.types import Pixels, Rejected, Source, Vectors

T = TypeVar("T")
P = TypeVar("P")
B = TypeVar("B")
R = TypeVar("R")
K = TypeVar("K")

BATCH = 32
"""images per batch: larger batches are no faster, and a large tower needs 10 MB for each image"""

MOST_REJECTED = 8
"""a batch ends early after this many times its size of rejected images, so that memory stays bounded"""


def run(
    items: Iterable[T],
    prepare: Callable[[T], P],
    batches: Callable[[Iterable[P]], Iterable[B]],
    encode: Callable[[B], R],
    *,
    threads: int,
    batch: int = BATCH,
) -> Generator[R]:
    """Run items through all three stages; results come in the order of the items.

    Args:
        items: what to process, drawn by the consumer's thread.
        prepare: reads and decodes one item; called in several threads at once.
        batches: groups prepared items; a generator function.
        encode: turns a batch into a result, in a thread of its own, one batch at a time.
        threads: threads that prepare.
        batch: items in a batch; up to two batches are prepared ahead.
    """
    with (
        closing(prefetch(prepare, items, threads=threads, depth=2 * batch)) as prepared,
        closing(prefetch(encode, batches(prepared), threads=1, depth=1)) as results,
    ):
        yield from results


def prefetch(function: Callable[[T], R], items: Iterable[T], *, threads: int, depth: int) -> Generator[R]:
    """Map a function over items in threads, in order, with at most `depth` results started or waiting."""
    pool = ThreadPoolExecutor(threads, "tuwen-pipeline")
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`; the last list may be shorter."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


AnyImage: TypeAlias = Path | str | bytes | Image.Image
"""an image as people have it: a path, a file's content, or an image of Pillow"""
ImageSource: TypeAlias = AnyImage | Source | Sample | Example | Rejected | Skipped
"""an image, or what the readers of folders and datasets yield"""


@dataclass(frozen=True, slots=True)
class Batch(Generic[K]):
    """Encoded images, and those that could not be read.

    Attributes:
        keys: n keys, one for each vector: a path or a sample's key, `images[N]` for bytes and Pillow images, or
            the caller's own.
        vectors: (n, dim) float32, every row of length 1.
        rejected: the images that could not be read, each with its reason.
    """

    keys: tuple[K, ...]
    vectors: Vectors
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class Keyed(Generic[K]):
    """An image with its key. `name`: what to call it if it is rejected."""

    key: K
    image: AnyImage
    name: str


def keyed(images: Iterable[ImageSource | tuple[Any, AnyImage]]) -> Iterator[Keyed[Any] | Rejected]:
    """Images with their keys. Rejected items pass through; skipped ones are dropped."""
    for number, image in enumerate(images):
        if isinstance(image, tuple):
            yield Keyed(image[0], image[1], str(image[0]))
        elif isinstance(image, Source):
            yield Keyed(image.key, image.path, image.key)
        elif isinstance(image, Sample | Example):
            name = image.name or image.key
            yield Rejected(name, "has no image") if image.image is None else Keyed(image.key, image.image, name)
        elif isinstance(image, str | Path):
            yield Keyed(str(image), image, str(image))
        elif isinstance(image, Rejected):
            yield image
        elif not isinstance(image, Skipped):
            yield Keyed(f"images[{number}]", image, f"images[{number}]")


def encode_images(
    items: Iterable[Keyed[K] | Rejected],
    decode: Callable[[AnyImage, str], Pixels | Rejected],
    encode: Callable[[list[Pixels]], Vectors],
    *,
    threads: int,
    batch: int = BATCH,
) -> Generator[Batch[K]]:
    """Decode and encode images.

    Args:
        items: images with their keys.
        decode: an image and its name to (1, 3, height, width), or why it cannot be read.
        encode: up to `batch` of these to (n, dim); also called with none.
        threads: threads that decode.
        batch: images encoded at a time. Rejected images do not count, so that batches are equally large.
    """

    def prepare(item: Keyed[K] | Rejected) -> tuple[K, Pixels] | Rejected:
        if isinstance(item, Rejected):
            return item
        pixels = decode(item.image, item.name)
        return pixels if isinstance(pixels, Rejected) else (item.key, pixels)

    def batches(prepared: Iterable[tuple[K, Pixels] | Rejected]) -> Iterator[_Decoded[K]]:
        decoded = _Decoded[K]()
        for item in prepared:
            decoded.rejected.append(item) if isinstance(item, Rejected) else decoded.images.append(item)
            if len(decoded.images) == batch or len(decoded.rejected) == MOST_REJECTED * batch:
                yield decoded
                decoded = _Decoded()
        if decoded.images or decoded.rejected:
            yield decoded

    def finish(decoded: _Decoded[K]) -> Batch[K]:
        vectors = encode([pixels for _, pixels in decoded.images])
        return Batch(tuple(key for key, _ in decoded.images), vectors, tuple(decoded.rejected))

    return run(items, prepare, batches, finish, threads=threads, batch=batch)


@dataclass(slots=True)
class _Decoded(Generic[K]):
    images: list[tuple[K, Pixels]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
