"""Combine many small requests into few large batches: inputs that arrive within milliseconds are encoded together.

`Batcher` collects the items of many callers; `TextEncoding` and `ImageEncoding` use one for each tower of a model.
`Pool` bounds the work that waits for a thread.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import numpy as np

from tuwen.errors import RejectedImages
from tuwen.index.store import Vector
from tuwen.server.config import ServerConfig
from tuwen.server.responses import APIError, busy
from tuwen.types import Pixels, Rejected, Vectors

if TYPE_CHECKING:
    from tuwen.runtime.encoder import Encoder

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[T, R]):
    """The items of one caller, and the future that it awaits."""

    items: Sequence[T]
    since: float
    done: "asyncio.Future[Sequence[R]]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher(Generic[T, R]):
    """Processes the items of many callers in batches; each caller receives one result per item, in order.

    If a caller is cancelled, its items leave the queue. One batch runs while the next one fills up.
    """

    def __init__(  # noqa: PLR0913  (what a queue is, and its limits)
        self,
        name: str,
        run: Callable[[Sequence[T]], Sequence[R]],
        *,
        most: int,
        wait: float,
        limit: int,
        observe: Callable[[int], object] = int,
        more: Callable[[], bool] = lambda: True,
    ) -> None:
        """Start in a running event loop.

        Args:
            name: what callers wait for, for error messages.
            run: the work, called in a thread of its own.
            most: items in a batch, unless a single caller has more.
            wait: seconds that the first item of a batch waits for others.
            limit: items that may wait.
            observe: called with the number of items of every batch.
            more: whether further items can come soon; while they cannot, a batch does not wait.
        """
        self._name, self._run = name, run
        self._most, self._wait, self._limit = most, wait, limit
        self._queue: dict[_Waiting[T, R], None] = {}
        self._arrived = asyncio.Event()
        self._running = False
        self._thread = ThreadPoolExecutor(1, f"tuwen-{name}")
        self._worker = asyncio.create_task(self._work())
        self._observe, self._more = observe, more

    @property
    def waiting(self) -> int:
        """The number of waiting items."""
        return sum(len(each.items) for each in self._queue)

    async def do(self, items: Sequence[T]) -> Sequence[R]:
        """Process items and return their results.

        Raises:
            APIError: 429, too many items are waiting.
            Exception: raised by the work for these items.
        """
        waiting = self.waiting
        if waiting and waiting + len(items) > self._limit:
            raise busy(self._name)
        mine = _Waiting[T, R](items, asyncio.get_running_loop().time())
        self._queue[mine] = None
        self._arrived.set()
        try:
            return await mine.done
        finally:
            self._queue.pop(mine, None)

    async def close(self) -> None:
        """Finish the accepted items, then stop."""
        while self._queue or self._running:
            await asyncio.sleep(0.01)
        self._worker.cancel()
        with suppress(asyncio.CancelledError):
            await self._worker
        self._thread.shutdown()

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            await self._fill()
            if batch := self._take():
                self._observe(sum(len(each.items) for each in batch))
                self._running = True
                await self._finish(batch)
                self._running = False

    async def _fill(self) -> None:
        """Wait for more, unless the batch is full, its first item has waited long enough already, or none can come."""
        clock = asyncio.get_running_loop().time
        while self._queue and self.waiting < self._most and self._more():
            left = next(iter(self._queue)).since + self._wait - clock()
            if left <= 0:
                return
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)

    def _take(self) -> list[_Waiting[T, R]]:
        """Take the next batch off the queue."""
        batch: list[_Waiting[T, R]] = []
        count = 0
        for each in list(self._queue):
            if batch and count + len(each.items) > self._most:
                break
            batch.append(each)
            count += len(each.items)
            del self._queue[each]
        if self._queue:
            self._arrived.set()
        else:
            self._arrived.clear()
        return batch

    async def _finish(self, batch: Sequence[_Waiting[T, R]]) -> None:
        """Run a batch; if it fails, run each caller's items alone, so that one caller's error affects no other."""
        items = [item for each in batch for item in each.items]
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, items)
        except Exception as error:
            if len(batch) > 1:
                for each in batch:
                    if not each.done.done():
                        await self._finish([each])
            elif not batch[0].done.done():
                batch[0].done.set_exception(error)
            return
        start = 0
        for each in batch:
            end = start + len(each.items)
            if not each.done.done():
                each.done.set_result(results[start:end])
            start = end


class Pool:
    """Threads for work that would block the event loop, with a bound on the work that waits for them."""

    def __init__(self, name: str, threads: int, limit: int) -> None:
        """Create the threads; `name` says what they do, for error messages."""
        self._name = name
        self._threads = ThreadPoolExecutor(threads, f"tuwen-{name}")
        self._room = threading.BoundedSemaphore(limit + threads)

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work` in a thread and return its result. If it is cancelled before it starts, it never runs.

        Raises:
            APIError: 429, too much work is waiting.
        """
        if not self._room.acquire(blocking=False):
            raise busy(self._name)
        future = self._threads.submit(partial(work, *args, **kwargs))
        future.add_done_callback(self._done)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Wait for running work and drop the rest."""
        self._threads.shutdown(cancel_futures=True)

    def _done(self, _: Future[Any]) -> None:
        self._room.release()


@dataclass(frozen=True, slots=True)
class EncodedText:
    """The vector of a text, and how many tokens it has, with its start and end."""

    vector: Vector
    tokens: int


class TextEncoding:
    """Texts to vectors in batches. The vectors of recent texts are cached."""

    def __init__(self, encoder: "Encoder", config: ServerConfig, observe: Callable[[int], object]) -> None:
        self._dim = encoder.dim
        self._encoder = encoder
        self.batcher: Batcher[str, EncodedText] = Batcher(
            "the text tower",
            self._run,
            most=config.max_batch,
            wait=config.batch_wait,
            limit=config.queue,
            observe=observe,
        )
        self._cache: OrderedDict[str, EncodedText] = OrderedDict()
        self._size = config.text_cache
        self.cached = 0
        """number of texts found in the cache"""

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """Encode texts: (n, dim) float32, every row of length 1."""
        found = await self.encode_counted(texts)
        return np.stack([text.vector for text in found]) if texts else np.empty((0, self._dim), np.float32)

    async def encode_counted(self, texts: Sequence[str]) -> list[EncodedText]:
        """Encode texts, and count their tokens."""
        known = {text: self._cache[text] for text in dict.fromkeys(texts) if text in self._cache}
        self.cached += len(known)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            known |= zip(missing, await self.batcher.do(missing), strict=True)
        for text, vector in known.items():
            self._cache[text] = vector
            self._cache.move_to_end(text)
        while len(self._cache) > self._size:
            self._cache.popitem(last=False)
        return [known[text] for text in texts]

    def _run(self, texts: Sequence[str]) -> list[EncodedText]:
        tokens = self._encoder.to_tokens(list(texts))
        vectors = self._encoder.encode_tokens(tokens)
        return list(map(EncodedText, vectors, tokens.lengths.tolist()))


class ImageEncoding:
    """Images to vectors: decoded in a pool, then encoded in batches."""

    def __init__(
        self, encoder: "Encoder", config: ServerConfig, decoding: Pool, observe: Callable[[int], object]
    ) -> None:
        self._encoder = encoder
        self._most = config.max_picture
        self._decoding = decoding
        self.batcher: Batcher[Pixels, Vector] = Batcher(
            "the image tower",
            lambda pixels: list(encoder.encode_pixels(np.concatenate(pixels))),
            most=config.max_batch,
            wait=config.batch_wait,
            limit=config.queue,
            observe=observe,
        )

    def check_size(self, data: bytes, name: str) -> None:
        """Raise APIError 413 if an image has too many bytes."""
        if len(data) > self._most:
            raise APIError(413, "too_large", f"{name} has {len(data):,} bytes; the limit is {self._most:,}")

    async def encode(self, data: bytes, name: str) -> Vector:
        """Encode an image: (dim,) float32 of length 1.

        Raises:
            APIError: 413, it has too many bytes.
            RejectedImages: it cannot be read.
        """
        self.check_size(data, name)
        decoded = await self._decoding.run(self._encoder.decode, data, name)
        if isinstance(decoded, Rejected):
            raise RejectedImages([decoded])
        return (await self.batcher.do([decoded.pixels]))[0]
