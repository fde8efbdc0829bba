"""Pictures by their address, from public hosts alone: a service must not be a way into the network it stands in.

A name is resolved once, every address that it has is checked, and the checked address is the one connected to: a
name that answers differently the second time (DNS rebinding) gains nothing. Redirects are followed by hand, each
through the same check. Knows hosts and sizes; does not know pictures.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore2

from tuwen.server.errors import Fault

REDIRECTS = 3
SECONDS = 10.0
"""for everything: names, connections, redirects, the last byte"""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class PublicOnly(httpcore2.AsyncNetworkBackend):
    """Connects to public addresses, and to no other."""

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
        """A connection to the host's first address.

        Raises:
            Fault: 422, one of its addresses is not public, or it has none.
        """
        addresses = await self.resolve(host, port)
        if not addresses or not all(map(self.allows, addresses)):
            raise Fault(422, "not_fetched", "the picture's address is not on the public network")
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
    """Whether an address is one of the open internet, also where it stands inside another kind of address."""
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
    """Fetches pictures. `most`: bytes."""

    def __init__(self, most: int, backend: PublicOnly) -> None:
        self._most = most
        self._backend = backend

    async def fetch(self, url: str) -> bytes:
        """The content at an address.

        Raises:
            Fault: 413, it is too long; 422, it cannot be had.
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
            raise _failed("the host does not answer as it should") from None
        raise _failed(f"it is redirected more than {REDIRECTS} times")

    async def _answer(self, pool: httpcore2.AsyncConnectionPool, url: str) -> tuple[bytes, str | None]:
        """The content, or where else it is."""
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
                raise _failed(f"the host answers {response.status}")
            content = bytearray()
            async for chunk in response.aiter_stream():
                content += chunk
                if len(content) > self._most:
                    raise Fault(413, "too_large", f"a picture may have {self._most:,} bytes")
            return bytes(content), None


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and not parts.username
        _ = parts.port
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise _failed("it must be a plain http or https address")
    return url


def _joined(url: str, following: str) -> str:
    try:
        return urljoin(url, following)
    except ValueError:
        raise _failed("it is redirected to what is no address") from None


def _failed(reason: str) -> Fault:
    return Fault(422, "not_fetched", f"the picture cannot be fetched: {reason}")
