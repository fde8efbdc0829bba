"""Who is let in: the right name for the service, no page of another origin, a key where one is set, a pace.

Knows addresses and headers. Does not know what is done inside.
"""

import hmac
from collections import OrderedDict
from math import ceil
from time import monotonic
from typing import Literal, TypeAlias

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tuwen.server.config import ServerConfig
from tuwen.server.errors import Fault

# ---- Who may do what: keys, compared in constant time. Knows roles; does not know any route's work.

Role: TypeAlias = Literal["read", "write"]


def key_in(headers: Headers) -> str | None:
    """The key of a request: `Authorization: Bearer KEY`, or `x-api-key`."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key")


def role_of(key: str | None, config: ServerConfig) -> Role | None:
    """What a key may do; None: nothing. Where no key is set, everybody may do everything."""
    if not config.protected:
        return "write"
    given = (key or "").encode()
    # All are compared, so that time does not tell which of them was near.
    write = sum(hmac.compare_digest(given, known.encode()) for known in config.keys)
    read = sum(hmac.compare_digest(given, known.encode()) for known in config.read_keys)
    return "write" if write else "read" if read else None


def may_write(request: Request) -> bool:
    """Whether who asks has the role for it."""
    role: Role | None = request.scope.get("tuwen.role")
    return role == "write"


# ---- How often somebody may ask

KNOWN = 10_000
"""names that are remembered; one that is forgotten begins anew with a full bucket"""


class Rates:
    """Buckets by name."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, name: str) -> float:
        """Seconds until `name` may ask; 0: now."""
        return max(0.0, (1 - self._level(name)) / self._per_second)

    def take(self, name: str) -> None:
        """`name` asks."""
        self._buckets[name] = (self._level(name) - 1, monotonic())
        self._buckets.move_to_end(name)
        while len(self._buckets) > KNOWN:
            self._buckets.popitem(last=False)

    def _level(self, name: str) -> float:
        level, since = self._buckets.get(name, (self._burst, 0.0))
        return min(self._burst, level + (monotonic() - since) * self._per_second)


# ---- Who is let in

OPEN = ("/health/", "/static/", "/docs", "/openapi.json", "/favicon.ico")
"""what needs no key: the page and its files hold nothing of the collection"""
READING = (
    "/v1/search",
    "/v1/recommend",
    "/v1/classify",
    "/v1/embeddings",
    "/knn-service",
    "/indices-list",
    "/metadata",
)
"""what is posted and changes nothing"""
HEAD = 16 * 2**10
"""bytes of all headers"""
GUESSES, GUESS_SECONDS = 10, 6
"""how many wrong keys an address may try at once, and seconds until it may try one more"""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Guard:
    """ASGI middleware. What it raises is answered by `Record`, further out."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._config = config
        self._rates = Rates(config.rate, max(1.0, 2 * config.rate)) if config.rate else None
        self._guesses = Rates(1 / GUESS_SECONDS, GUESSES)
        names = (*LOOPBACK, config.host, *config.hosts) if config.loopback else ()
        self._hosts = frozenset(map(str.lower, names))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or raise.

        Raises:
            Fault: 401, 403, 421, 429, 431.
        """
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if sum(len(name) + len(value) for name, value in headers.raw) > HEAD:
                raise Fault(431, "too_large", f"a request's headers may have {HEAD:,} bytes")
            self._check_host(headers)
            self._check_origin(scope, headers)
            self._check_key(scope, headers)
        await self._app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        """A page of somebody else may have its own name lead to this machine; then it asks for that name."""
        host = _host(headers.get("host", ""))
        if self._hosts and host not in self._hosts:
            raise Fault(421, "wrong_host", "this service is not called by that name: see --allow-host")

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """A page of somebody else may send a form to this machine, without being allowed to read the answer."""
        origin = headers.get("origin")
        if origin is None or scope["method"] in ("GET", "HEAD", "OPTIONS") or origin in self._config.origins:
            return
        if origin.partition("://")[2] != headers.get("host"):
            raise Fault(403, "cross_origin", "pages of other origins may not use this service: see --cors")

    def _check_key(self, scope: Scope, headers: Headers) -> None:
        needed = _needed(scope["method"], scope["path"])
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
            raise Fault(401, "no_key", "a key is needed: Authorization: Bearer KEY", challenge)
        if self._rates is not None:
            _check_rate(self._rates, key if key and self._config.protected else address, take=True)
        if needed == "write" and role != "write":
            raise Fault(403, "read_key", "this key may read only")


def _check_rate(rates: Rates, name: str, *, take: bool) -> None:
    seconds = rates.wait(name)
    if seconds:
        after = {"retry-after": str(ceil(seconds))}
        raise Fault(429, "too_often", f"too many requests: try again in {ceil(seconds)} s", after)
    if take:
        rates.take(name)


def _host(value: str) -> str:
    """A host without its port and brackets."""
    if value.startswith("["):
        return value[1:].partition("]")[0].lower()
    return value.partition(":")[0].lower()


def _needed(method: str, path: str) -> Role | None:
    if path == "/" or path.startswith(OPEN) or method == "OPTIONS":
        return None
    return "read" if method in ("GET", "HEAD") or path.startswith(READING) else "write"
