"""Stages that run ahead of each other, in threads.

A stage is a function; `ahead` maps it over a stream in order, a bounded number of items early. Stages are chained
as generators, all drawn by one thread, so whatever stands between two stages needs no lock.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

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
