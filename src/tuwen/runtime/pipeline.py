"""Stages that run ahead of each other, in threads.

A stage is a function; `ahead` maps it over a stream in order, a bounded number of items early. Stages are chained
as generators, all drawn by one thread, so whatever stands between two stages needs no lock.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

from PIL import Image

from tuwen.data.decode import Picture, Reading, read_image
from tuwen.errors import InvalidInput
from tuwen.runtime.machine import usable_cores
from tuwen.types import Rejected

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of `count` threads. Left early, it finishes what has begun and drops what has not."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(pool: ThreadPoolExecutor, stage: Callable[[T], R], items: Iterable[T], early: int) -> Iterator[R]:
    """The results of `stage`, in the order of `items`, with at most `early` of them begun or waiting."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(stage, item))
        if len(waiting) > early:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter."""
    stream = iter(items)
    while group := list(islice(stream, size)):
        yield group


# ---- Pictures as people hand them over, decoded in a few threads, a batch ahead of who encodes them.

AnyImage: TypeAlias = Path | str | bytes | Image.Image
Decoded: TypeAlias = Picture | Rejected


def decode(images: Sequence[AnyImage], reading: Reading, batch: int) -> Iterator[list[Decoded]]:
    """Decode pictures, in order, `batch` at a time; the next batch is decoded while the caller has this one.

    Args:
        images: paths, contents of files, or images of Pillow. One of the latter two is called `images[N]` where it
            is rejected.
        reading: how.
        batch: at least 1.

    Raises:
        InvalidInput: one picture where several are wanted.
    """
    if isinstance(images, str | bytes | Path | Image.Image):
        raise InvalidInput("one picture was given where several are wanted: put it into a list")
    with ThreadPoolExecutor(min(usable_cores(), batch), "tuwen-decode") as pool:
        waiting: list[Future[Decoded]] = []
        for start in range(0, len(images), batch):
            numbered = enumerate(images[start : start + batch], start)
            following = [pool.submit(_decode, number, image, reading) for number, image in numbered]
            if waiting:
                yield [future.result() for future in waiting]
            waiting = following
        if waiting:
            yield [future.result() for future in waiting]


def _decode(number: int, image: AnyImage, reading: Reading) -> Decoded:
    if isinstance(image, str | Path):
        return read_image(Path(image), str(image), reading)
    return read_image(image, f"images[{number}]", reading)
