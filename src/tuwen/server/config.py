"""The configuration of a service."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from tuwen.errors import InvalidInput

Log: TypeAlias = Literal["none", "errors", "requests", "queries"]


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The options and limits of a service.

    Attributes:
        cache: the folder for thumbnails; it may be deleted at any time.
        root: the folder of the images on this machine; None: the one that the index remembers.
        host: the address to listen on.
        port: the port to listen on; 0: any free one.
        root_path: the path below which a reverse proxy serves it, e.g. `/photos`; empty: the root.
        keys: keys that allow reading and writing.
        read_keys: keys that allow reading.
        allow_upload: whether images may be added and removed.
        allow_url: whether images may be given by URL, which the service then fetches.
        insecure: allow listening on other addresses than localhost without any key.
        hosts: host names that it answers to, besides those of `host`.
        adapters: folders of `tuwen adapt` that images can be classified by, each named after its folder.
        origins: other sites whose pages may call it, e.g. `https://example.org` (CORS).
        threads: threads that decode images.
        max_batch: texts, or images, that a tower encodes at a time.
        batch_wait: seconds that the first input of a batch waits for others.
        queue: inputs that may wait for each tower, for decoding and for the index; more are refused.
        deadline: seconds until the response, once the request has been read.
        body_seconds: seconds for the body of a request to arrive, and one more for each 16 KiB.
        max_picture: bytes of an image.
        max_upload: bytes of a request that uploads images.
        text_cache: texts whose vectors are cached; 0: none.
        rate: requests per second for each key, or for each address if there are no keys; 0: unlimited.
        log: what is logged to standard error, one JSON document per line; `queries` is `requests` with the queries.
    """

    cache: Path
    root: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    root_path: str = ""
    keys: tuple[str, ...] = ()
    read_keys: tuple[str, ...] = ()
    allow_upload: bool = False
    allow_url: bool = False
    insecure: bool = False
    hosts: tuple[str, ...] = ()
    adapters: tuple[Path, ...] = ()
    origins: tuple[str, ...] = ()
    threads: int = 2
    max_batch: int = 32
    batch_wait: float = 0.003
    queue: int = 256
    deadline: float = 30.0
    body_seconds: float = 20.0
    max_picture: int = 32 * 2**20
    max_upload: int = 256 * 2**20
    text_cache: int = 10_000
    rate: float = 0.0
    log: Log = "requests"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def protected(self) -> bool:
        """Whether a key is required."""
        return bool(self.keys or self.read_keys)


def checked(config: ServerConfig) -> ServerConfig:
    """Validate a configuration and return it.

    Raises:
        InvalidInput: it would expose an index to a network without a key, a key is too short, or an origin or a path is
            malformed.
    """
    if not (config.loopback or config.protected or config.insecure):
        raise InvalidInput(
            f"--host {config.host} is reachable from other machines, but no --key is set: set one, or pass --insecure "
            "if everyone who can reach it may use it",
            value=config.host,
            where="--host",
        )
    for key in (*config.keys, *config.read_keys):
        if len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key:
            raise InvalidInput("a key must have at least 8 ASCII characters and no spaces", where="--key")
    for origin in config.origins:
        scheme, _, host = origin.partition("://")
        if origin != "null" and (not scheme or not host or "/" in host or "*" in host or origin != origin.lower()):
            raise InvalidInput(
                f"--cors {origin} is not an origin: write it in lower case and without a path, e.g. "
                "https://example.org",
                value=origin,
                where="--cors",
            )
    path = config.root_path
    if path and not is_root_path(path):
        raise InvalidInput(
            f"--root-path {path} is not valid: it must begin with a slash and not end with one, e.g. /photos",
            value=path,
            where="--root-path",
        )
    return config


def is_root_path(path: str) -> bool:
    """Whether a path can be the prefix of a service: `/a` or `/a/b`, but nothing that browsers read as a host."""
    return re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path) is not None
