"""How long a request may be, and take to arrive, and to be answered; and what becomes of it if its client leaves.

Knows bytes and seconds. What it raises is answered by `Record`, further out.
"""

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuwen.server.config import ServerConfig
from tuwen.server.errors import Fault

PACE = 16 * 2**10
"""bytes a second: a body gets a second more for each"""
BRIEF = 0.02
"""seconds until anybody looks whether the client has left: looking costs a short request a good part of its time"""


class Inlet:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on.

        Raises:
            Fault: 408, its body comes too slowly; 413, it is too long; 504, it is not answered in time.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        form = headers.get("content-type", "").startswith("multipart/form-data")
        most = self._config.max_upload if form else 4 * self._config.max_picture // 3 + 2**20
        bodied = "content-length" in headers or "transfer-encoding" in headers
        passage = _Passage(receive, send, self._config, most, whole=not bodied)
        passage.check(int(headers.get("content-length", "0")))
        await passage.run(self._app, scope)


class _Passage:
    """One request on its way in."""

    def __init__(self, receive: Receive, send: Send, config: ServerConfig, most: int, *, whole: bool) -> None:
        self._receive, self._send = receive, send
        self._config = config
        self._most = most
        self._count = 0
        self._answered = False
        self._whole = whole
        self._gone = asyncio.Event()
        self._clock = asyncio.timeout(None)
        self._begun = asyncio.get_running_loop().time()
        self._looking: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None

    def check(self, count: int) -> None:
        """See that a request may have so many bytes."""
        if count > self._most:
            raise Fault(413, "too_large", f"a request of this kind may have {self._most:,} bytes")

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Have the request answered, for as long as that may take and somebody waits for it."""
        task = asyncio.current_task()
        assert task is not None
        try:
            async with self._clock:
                self._allow(self._config.deadline if self._whole else self._config.body_seconds)
                await app(scope, self.receive, self.send)
        except TimeoutError:
            if self._whole:
                raise Fault(504, "deadline", f"no answer in {self._config.deadline:g} s") from None
            raise Fault(408, "slow_body", "the request's body comes too slowly") from None
        except asyncio.CancelledError:
            if not self._gone.is_set():
                raise
            task.uncancel()
        finally:
            self._look_away()

    async def receive(self) -> Message:
        """The next part of the body; when it is whole, whether the client has left."""
        if self._looking is not None:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._count += len(message.get("body", b""))
            self.check(self._count)
            self._arrived(whole=not message.get("more_body", False))
        return message

    async def send(self, message: Message) -> None:
        """What has begun to be answered may take its time: a large file, a slow line."""
        if message["type"] == "http.response.start":
            self._answered = True
            self._clock.reschedule(None)
        elif not message.get("more_body", False):
            self._look_away()  # once all is sent the client counts as gone, and there are files to close yet
        await self._send(message)

    def _arrived(self, *, whole: bool) -> None:
        if not whole:
            self._allow(self._config.body_seconds + self._count / PACE)
            return
        self._whole = True
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._allow(loop.time() - self._begun + self._config.deadline)
        self._looking = loop.call_later(BRIEF, self._look_out, task)

    def _allow(self, seconds: float) -> None:
        """Seconds since the request began."""
        if not self._answered:
            self._clock.reschedule(self._begun + seconds)

    def _look_out(self, task: "asyncio.Task[object]") -> None:
        """Begin to look whether the client has left."""
        self._watch = asyncio.create_task(self._until_gone(task))

    def _look_away(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        if self._watch is not None:
            self._watch.cancel()

    async def _until_gone(self, task: "asyncio.Task[object]") -> None:
        with suppress(asyncio.CancelledError):
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone.set()
                task.cancel()
