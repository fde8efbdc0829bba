"""Who may do what: keys, compared in constant time. Knows roles; does not know any route's work."""

import hmac
from typing import Literal, TypeAlias

from fastapi import Request
from starlette.datastructures import Headers

from tuwen.server.config import ServerConfig

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
