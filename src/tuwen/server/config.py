"""How a service is to behave: one value, made at the edge and passed down. Knows limits; reads no environment."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from tuwen.errors import InvalidInput

Log: TypeAlias = Literal["none", "errors", "requests", "queries"]


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What a service allows, and how much of it.

    Attributes:
        cache: the folder for thumbnails; it may be deleted at any time.
        root: the collection's folder on this machine; None: where the index says that it is.
        host: the address that is listened at.
        port: 0: any that is free.
        keys: who has one may read and write.
        read_keys: who has one may read.
        allow_upload: whether pictures may be added and removed.
        allow_url: whether pictures may be named by their address, and are then fetched.
        insecure: whether to listen beyond this machine without any key.
        hosts: names that this service is called by, beside those of `host`.
        origins: pages of other origins that may call it, e.g. `https://example.org` (CORS).
        threads: that decode pictures.
        max_batch: how many texts, or pictures, a tower encodes at a time.
        batch_wait: seconds that the first of a batch waits for others.
        queue: how many may wait for a tower, for decoding or for the index, each; more are refused.
        deadline: seconds an answer may take, once the request has been read.
        body_seconds: seconds a request's body may take, and a second more for each 16 KiB.
        max_picture: bytes of a picture.
        max_upload: bytes of a request with pictures.
        max_pixels: of a picture.
        text_cache: how many texts' vectors are kept; 0: none.
        rate: requests a second for each key, or address where there is no key; 0: any number.
        log: what standard error shows, one JSON document a line; `queries` is `requests` with what was asked.
    """

    cache: Path
    root: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = ()
    read_keys: tuple[str, ...] = ()
    allow_upload: bool = False
    allow_url: bool = False
    insecure: bool = False
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    threads: int = 2
    max_batch: int = 32
    batch_wait: float = 0.003
    queue: int = 256
    deadline: float = 30.0
    body_seconds: float = 20.0
    max_picture: int = 32 * 2**20
    max_upload: int = 256 * 2**20
    max_pixels: int = 178_956_970
    text_cache: int = 10_000
    rate: float = 0.0
    log: Log = "requests"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def protected(self) -> bool:
        """Whether a key is needed."""
        return bool(self.keys or self.read_keys)


def checked(config: ServerConfig) -> ServerConfig:
    """The configuration, if it is one that can be meant.

    Raises:
        InvalidInput: it would open an index to a network without a key, a key is too short, or an origin is none.
    """
    if not (config.loopback or config.protected or config.insecure):
        raise InvalidInput(
            f"--host {config.host} can be reached from other machines, and no --key is set: set one, or say "
            "--insecure if everybody who reaches it may use it"
        )
    for key in (*config.keys, *config.read_keys):
        if len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key:
            raise InvalidInput("a key must have at least 8 characters, all of ASCII, none a space")
    for origin in config.origins:
        scheme, _, host = origin.partition("://")
        if origin != "null" and (not scheme or not host or "/" in host or "*" in host or origin != origin.lower()):
            raise InvalidInput(
                f"--cors {origin} is what no browser calls a site: write it as https://example.org, in lower case "
                "and without anything after the name and port"
            )
    return config
