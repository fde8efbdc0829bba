"""Middleware that every request passes before it reaches a route.

`ReverseProxy` applies a proxy's headers about the original request. `Authentication` checks the host name, the origin,
the key and the rate. `RequestLimits` bounds the size of a request, the time in which it must arrive, and the time until
its response. Errors that they raise are turned into responses by `Monitoring`, further out.
"""

import asyncio
import hmac
from collections import OrderedDict
from contextlib import suppress
from math import ceil
from time import monotonic
from typing import Literal, TypeAlias

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuwen.server.config import ServerConfig, is_root_path
from tuwen.server.responses import APIError, route_path

Role: TypeAlias = Literal["read", "write"]

OPEN = ("/health/", "/static/", "/docs", "/openapi.json", "/favicon.ico")
"""routes that need no key: the page and its files contain nothing of the collection"""
READING = (
    "/v1/search",
    "/v1/recommend",
    "/v1/classify",
    "/v1/embeddings",
    "/knn-service",
    "/indices-list",
    "/metadata",
    "/v1/download",
)
"""POST routes that change nothing"""
HEADERS = 16 * 2**10
"""bytes of all headers of a request"""
GUESSES, GUESS_SECONDS = 10, 6
"""wrong keys that an address may try at first, and seconds until it may try one more"""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class ReverseProxy:
    """ASGI middleware for a service below a path of another server.

    The path is `X-Forwarded-Prefix`, from a proxy that strips it, or the configured one, which may be stripped or not.
    It and `X-Forwarded-Proto` only affect the links in the response to the same request.
    """

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._root_path = config.root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on as the proxy's client sent it."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            scheme = headers.get("x-forwarded-proto", "")
            prefix = headers.get("x-forwarded-prefix", "").rstrip("/")
            path = scope["path"]
            if not is_root_path(prefix):
                prefix = self._root_path
                path = path[len(prefix) :] if path == prefix or path.startswith(f"{prefix}/") else path
            scope["root_path"], scope["path"] = prefix, prefix + path
            if scheme in ("http", "https"):
                scope["scheme"] = scheme
        await self._app(scope, receive, send)


class Authentication:
    """ASGI middleware that lets a request pass or raises."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._config = config
        self._rates = RateLimit(config.rate, max(1.0, 2 * config.rate)) if config.rate else None
        self._guesses = RateLimit(1 / GUESS_SECONDS, GUESSES)
        names = (*LOOPBACK, config.host, *config.hosts) if config.loopback else ()
        self._hosts = frozenset(map(str.lower, names))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on.

        Raises:
            APIError: 401, 403, 421, 429 or 431.
        """
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if sum(len(name) + len(value) for name, value in headers.raw) > HEADERS:
                raise APIError(431, "too_large", f"the headers of a request may have {HEADERS:,} bytes")
            self._check_host(headers)
            self._check_origin(scope, headers)
            self._check_key(scope, headers)
        await self._app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        """Prevent DNS rebinding: another site's name may resolve to this machine, but the browser sends that name."""
        host = _host(headers.get("host", ""))
        if self._hosts and host not in self._hosts:
            raise APIError(421, "wrong_host", "this service does not answer to that host name; see --allow-host")

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Prevent cross-site requests: another site's page could send a form here, without reading the response."""
        origin = headers.get("origin")
        if origin is None or scope["method"] in ("GET", "HEAD", "OPTIONS") or origin in self._config.origins:
            return
        # Browsers do not let pages of other sites set the second header, unless --cors allows it.
        if origin.partition("://")[2] not in (headers.get("host"), headers.get("x-forwarded-host")):
            raise APIError(
                403,
                "cross_origin",
                "pages of other origins may not use this service; allow them with --cors, or configure the reverse "
                "proxy to forward the Host header",
            )

    def _check_key(self, scope: Scope, headers: Headers) -> None:
        needed = _needed(scope["method"], route_path(scope))
        if needed is None:
            return
        key, address = key_in(headers), scope["client"][0] if scope.get("client") else ""
        _check_rate(self._guesses, address, take=False)
        role = role_of(key, self._config)
        scope["tuwen.role"] = role
        if role is None:
            if key is not None:
                self._guesses.take(address)
            challenge = {"www-authenticate": "Bearer"}
            raise APIError(401, "no_key", "a key is required: Authorization: Bearer KEY", challenge)
        if self._rates is not None:
            _check_rate(self._rates, key if key and self._config.protected else address, take=True)
        if needed == "write" and role != "write":
            raise APIError(403, "read_key", "this key allows reading only")


def key_in(headers: Headers) -> str | None:
    """The key of a request: `Authorization: Bearer KEY`, or `x-api-key`."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key")


def role_of(key: str | None, config: ServerConfig) -> Role | None:
    """The role of a key; None if it is not valid. Without any configured key, everyone may read and write."""
    if not config.protected:
        return "write"
    given = (key or "").encode()
    # All keys are compared, so that the time taken does not reveal which of them was close.
    write = sum(hmac.compare_digest(given, known.encode()) for known in config.keys)
    read = sum(hmac.compare_digest(given, known.encode()) for known in config.read_keys)
    return "write" if write else "read" if read else None


def may_write(request: Request) -> bool:
    """Whether the request's key allows writing."""
    role: Role | None = request.scope.get("tuwen.role")
    return role == "write"


class RateLimit:
    """A token bucket per name."""

    NAMES = 10_000
    """names that are remembered; one that is dropped starts again with a full bucket"""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, name: str) -> float:
        """Seconds until `name` may send a request; 0: now."""
        return max(0.0, (1 - self._level(name)) / self._per_second)

    def take(self, name: str) -> None:
        """Count a request of `name`."""
        self._buckets[name] = (self._level(name) - 1, monotonic())
        self._buckets.move_to_end(name)
        while len(self._buckets) > self.NAMES:
            self._buckets.popitem(last=False)

    def _level(self, name: str) -> float:
        level, since = self._buckets.get(name, (self._burst, 0.0))
        return min(self._burst, level + (monotonic() - since) * self._per_second)


def _check_rate(limit: RateLimit, name: str, *, take: bool) -> None:
    seconds = limit.wait(name)
    if seconds:
        after = {"retry-after": str(ceil(seconds))}
        raise APIError(429, "too_often", f"too many requests: try again in {ceil(seconds)} s", after)
    if take:
        limit.take(name)


def _host(value: str) -> str:
    """A host without its port and brackets."""
    if value.startswith("["):
        return value[1:].partition("]")[0].lower()
    return value.partition(":")[0].lower()


def _needed(method: str, path: str) -> Role | None:
    if path == "/" or path.startswith(OPEN) or method == "OPTIONS":
        return None
    return "read" if method in ("GET", "HEAD") or path.startswith(READING) else "write"


PACE = 16 * 2**10
"""bytes per second: a body may take a second longer for each"""
LOOK_AFTER = 0.02
"""seconds after which the connection is watched for a disconnect; watching would slow down short requests"""


class RequestLimits:
    """ASGI middleware that bounds the size and the duration of requests."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on.

        Raises:
            APIError: 408, its body arrives too slowly; 413, it is too long; 504, it is not answered in time.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        form = headers.get("content-type", "").startswith("multipart/form-data")
        most = self._config.max_upload if form else 4 * self._config.max_picture // 3 + 2**20
        has_body = "content-length" in headers or "transfer-encoding" in headers
        limited = _LimitedRequest(receive, send, self._config, most, whole=not has_body)
        limited.check_size(int(headers.get("content-length", "0")))
        await limited.run(self._app, scope)


class _LimitedRequest:
    """One request, from its first byte to its response."""

    def __init__(self, receive: Receive, send: Send, config: ServerConfig, most: int, *, whole: bool) -> None:
        self._receive, self._send = receive, send
        self._config = config
        self._most = most
        self._count = 0
        self._answered = False
        self._whole = whole
        self._left = asyncio.Event()
        self._clock = asyncio.timeout(None)
        self._begun = asyncio.get_running_loop().time()
        self._timer: asyncio.TimerHandle | None = None
        self._watching: asyncio.Task[None] | None = None

    def check_size(self, count: int) -> None:
        """Raise APIError 413 if the body has too many bytes."""
        if count > self._most:
            raise APIError(413, "too_large", f"a request of this kind may have {self._most:,} bytes")

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run the application for this request, within the deadline and while the client waits."""
        task = asyncio.current_task()
        assert task is not None
        try:
            async with self._clock:
                self._allow(self._config.deadline if self._whole else self._config.body_seconds)
                await app(scope, self.receive, self.send)
        except TimeoutError:
            if self._whole:
                raise APIError(504, "deadline", f"no response within {self._config.deadline:g} s") from None
            raise APIError(408, "slow_body", "the body of the request arrives too slowly") from None
        except asyncio.CancelledError:
            if not self._left.is_set():
                raise
            task.uncancel()
        finally:
            self._stop_watching()

    async def receive(self) -> Message:
        """The next part of the body; after the whole body, a message when the client disconnects."""
        if self._timer is not None:
            await self._left.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._count += len(message.get("body", b""))
            self.check_size(self._count)
            self._arrived(whole=not message.get("more_body", False))
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response. Once it has begun there is no deadline: a file may be large, a client slow."""
        if message["type"] == "http.response.start":
            self._answered = True
            self._clock.reschedule(None)
        elif not message.get("more_body", False):
            self._stop_watching()  # a client counts as gone after the last part, but files must still be closed
        await self._send(message)

    def _arrived(self, *, whole: bool) -> None:
        if not whole:
            self._allow(self._config.body_seconds + self._count / PACE)
            return
        self._whole = True
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._allow(loop.time() - self._begun + self._config.deadline)
        self._timer = loop.call_later(LOOK_AFTER, self._start_watching, task)

    def _allow(self, seconds: float) -> None:
        """Move the deadline to this number of seconds after the request began."""
        if not self._answered:
            self._clock.reschedule(self._begun + seconds)

    def _start_watching(self, task: "asyncio.Task[object]") -> None:
        self._watching = asyncio.create_task(self._cancel_when_left(task))

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()

    async def _cancel_when_left(self, task: "asyncio.Task[object]") -> None:
        with suppress(asyncio.CancelledError):
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._left.set()
                task.cancel()
