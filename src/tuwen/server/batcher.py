"""Many small requests as few large ones: what arrives within a few milliseconds is done together, in one thread.

Knows queues and time. Does not know what is done.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

from tuwen.server.errors import busy

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class _Wish(Generic[T, R]):
    """What one caller waits for."""

    items: Sequence[T]
    since: float
    done: "asyncio.Future[Sequence[R]]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher(Generic[T, R]):
    """Lists of items -> lists of results, one for each item, in order.

    A caller that is cancelled takes its items along. One batch runs while the next fills up.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[T]], Sequence[R]],
        *,
        most: int,
        wait: float,
        limit: int,
        observe: Callable[[int], object] = int,
    ) -> None:
        """Begin in a running event loop.

        Args:
            name: what is waited for, as a refusal says it.
            run: the work, in a thread of its own.
            most: items of a batch, unless a single caller has more.
            wait: seconds that the first of a batch waits for others.
            limit: items that may wait.
            observe: called with the number of items of every batch.
        """
        self._name, self._run = name, run
        self._most, self._wait, self._limit = most, wait, limit
        self._wishes: dict[_Wish[T, R], None] = {}
        self._arrived = asyncio.Event()
        self._running = False
        self._thread = ThreadPoolExecutor(1, f"tuwen-{name}")
        self._worker = asyncio.create_task(self._work())
        self._observe = observe

    @property
    def waiting(self) -> int:
        """Items that wait."""
        return sum(len(wish.items) for wish in self._wishes)

    async def do(self, items: Sequence[T]) -> Sequence[R]:
        """The results of some items.

        Raises:
            Fault: 429, too many are waiting.
            Exception: what the work raises for these items.
        """
        waiting = self.waiting
        if waiting and waiting + len(items) > self._limit:
            raise busy(self._name)
        wish = _Wish[T, R](items, asyncio.get_running_loop().time())
        self._wishes[wish] = None
        self._arrived.set()
        try:
            return await wish.done
        finally:
            self._wishes.pop(wish, None)

    async def close(self) -> None:
        """Finish what was accepted."""
        while self._wishes or self._running:
            await asyncio.sleep(0.01)
        self._worker.cancel()
        with suppress(asyncio.CancelledError):
            await self._worker
        self._thread.shutdown()

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            await self._fill()
            if batch := self._taken():
                self._observe(sum(len(wish.items) for wish in batch))
                self._running = True
                await self._fulfil(batch)
                self._running = False

    async def _fill(self) -> None:
        """Wait for more, unless there is enough or the first has waited long enough (while another batch ran)."""
        clock = asyncio.get_running_loop().time
        while self._wishes and self.waiting < self._most:
            left = next(iter(self._wishes)).since + self._wait - clock()
            if left <= 0:
                return
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)

    def _taken(self) -> list[_Wish[T, R]]:
        """The wishes of the next batch, off the queue."""
        batch: list[_Wish[T, R]] = []
        count = 0
        for wish in list(self._wishes):
            if batch and count + len(wish.items) > self._most:
                break
            batch.append(wish)
            count += len(wish.items)
            del self._wishes[wish]
        if self._wishes:
            self._arrived.set()
        else:
            self._arrived.clear()
        return batch

    async def _fulfil(self, batch: Sequence[_Wish[T, R]]) -> None:
        """Run a batch; where it fails, each wish by itself, so that one caller's fault is not another's."""
        items = [item for wish in batch for item in wish.items]
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, items)
        except Exception as error:
            if len(batch) > 1:
                for wish in batch:
                    if not wish.done.done():
                        await self._fulfil([wish])
            elif not batch[0].done.done():
                batch[0].done.set_exception(error)
            return
        start = 0
        for wish in batch:
            end = start + len(wish.items)
            if not wish.done.done():
                wish.done.set_result(results[start:end])
            start = end


# ---- Work that would hold up the event loop

P = ParamSpec("P")


class Pool:
    """Threads, and a bound on what waits for them. `name`: what they do, as a refusal says it."""

    def __init__(self, name: str, threads: int, limit: int) -> None:
        self._name = name
        self._threads = ThreadPoolExecutor(threads, f"tuwen-{name}")
        self._room = threading.BoundedSemaphore(limit + threads)

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What `work` returns. Cancelled before it has begun, it never does.

        Raises:
            Fault: 429, too much is waiting.
        """
        if not self._room.acquire(blocking=False):
            raise busy(self._name)
        future = self._threads.submit(partial(work, *args, **kwargs))
        future.add_done_callback(self._done)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End when what has begun has ended."""
        self._threads.shutdown(cancel_futures=True)

    def _done(self, _: Future[Any]) -> None:
        self._room.release()
