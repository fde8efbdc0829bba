"""Fetch images by URL from public hosts only, so that the service does not expose its own network.

A host name is resolved once, all of its addresses are checked, and the connection uses a checked address, so DNS
rebinding (a different address on the second look-up) has no effect. Redirects are followed one by one with the same
check.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore2

from tuwen.server.responses import APIError

REDIRECTS = 3
SECONDS = 10.0
"""seconds for the whole request: resolving, connecting, redirects, up to the last byte"""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class PublicOnly(httpcore2.AsyncNetworkBackend):
    """Connects to public addresses only."""

    def __init__(self) -> None:
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the host's first address.

        Raises:
            APIError: 422, one of its addresses is not public, or it has none.
        """
        addresses = await self.resolve(host, port)
        if not addresses or not all(map(self.allows, addresses)):
            raise APIError(422, "not_fetched", "the URL of the image does not lead to a public address")
        return await self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a name."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return []
        return [str(entry[4][0]) for entry in found]

    def allows(self, address: str) -> bool:
        """Whether an address is public."""
        return is_public(address)


def is_public(address: str) -> bool:
    """Whether an address is on the public internet; IPv4 addresses embedded in IPv6 ones are checked too."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if inner:
            return is_public(str(inner))
        if ip in _NAT64:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class Fetcher:
    """Fetches images of up to `most` bytes."""

    def __init__(self, most: int, backend: PublicOnly) -> None:
        self._most = most
        self._backend = backend

    async def fetch(self, url: str) -> bytes:
        """The content at a URL.

        Raises:
            APIError: 413, it is too large; 422, it cannot be fetched.
        """
        try:
            async with (
                asyncio.timeout(SECONDS),
                httpcore2.AsyncConnectionPool(network_backend=self._backend) as pool,
            ):
                for _ in range(REDIRECTS + 1):
                    content, following = await self._answer(pool, _checked(url))
                    if following is None:
                        return content
                    url = _joined(url, following)
        except (TimeoutError, OSError, httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException):
            raise _failed("the host does not answer properly or in time") from None
        raise _failed(f"there are more than {REDIRECTS} redirects")

    async def _answer(self, pool: httpcore2.AsyncConnectionPool, url: str) -> tuple[bytes, str | None]:
        """The content, or the URL that it redirects to."""
        headers: dict[bytes | str, bytes | str] = {
            "accept": "image/*",
            "accept-encoding": "identity",
            "user-agent": "tuwen",
        }
        async with pool.stream("GET", url, headers=headers) as response:
            if response.status in (301, 302, 303, 307, 308):
                places = [value for name, value in response.headers if name.lower() == b"location"]
                return b"", places[0].decode("ascii", "replace") if places else ""
            if response.status != 200:
                raise _failed(f"the host answered with status {response.status}")
            content = bytearray()
            async for chunk in response.aiter_stream():
                content += chunk
                if len(content) > self._most:
                    raise APIError(413, "too_large", f"an image may have {self._most:,} bytes")
            return bytes(content), None


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and not parts.username
        _ = parts.port
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise _failed("give a plain http or https URL")
    return url


def _joined(url: str, following: str) -> str:
    try:
        return urljoin(url, following)
    except ValueError:
        raise _failed("it redirects to an invalid URL") from None


def _failed(reason: str) -> APIError:
    return APIError(422, "not_fetched", f"the image cannot be fetched: {reason}")
