"""Work that would hold up the event loop, in a few threads; what is too much is refused, not piled up."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from tuwen.server.faults import busy

P = ParamSpec("P")
R = TypeVar("R")


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
