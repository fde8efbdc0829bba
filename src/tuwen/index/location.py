"""Where an index can be: in a folder, or in a Qdrant cluster, by URL.

photos.tuwen
qdrant://host:6333/photos
qdrants://host:6333/photos      the same over TLS
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from tuwen.errors import InvalidInput

if TYPE_CHECKING:
    from tuwen.settings import Settings

PORT = 6333
_SCHEMES = {"qdrant": False, "qdrants": True}
_NAME = re.compile(r"[\w.\-]{1,255}")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A collection of a Qdrant cluster.

    Attributes:
        host: its name or address.
        port: of its HTTP interface.
        name: the collection's.
        tls: whether the connection is encrypted.
        key: its API key; never printed.
        shards: the number of shards of a new collection; None: the cluster's default.
        replicas: the number of replicas of each shard of a new collection; likewise.
    """

    host: str
    port: int
    name: str
    tls: bool = False
    key: str | None = field(default=None, repr=False)
    shards: int | None = None
    replicas: int | None = None

    def __str__(self) -> str:
        """The URL, without the key."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"qdrant{'s' if self.tls else ''}://{host}:{self.port}/{self.name}"


Location: TypeAlias = Path | Cluster


def is_cluster(text: str) -> bool:
    """Whether a string has the form of a cluster's URL."""
    return text.partition("://")[0] in _SCHEMES and "://" in text


def parse_location(text: "str | Location", key: str | None = None) -> Location:
    """Parse the place of an index.

    Args:
        text: a folder, or a cluster's URL; a place is returned unchanged.
        key: the API key of a cluster.

    Raises:
        InvalidInput: it is not a URL, lacks the host or the collection, or has other parts than these and the port.
    """
    if isinstance(text, Cluster):
        return text if key is None else replace(text, key=key)
    if isinstance(text, Path) or not is_cluster(text):
        return Path(text)
    try:
        parts = urlsplit(text)
    except ValueError:  # its message would show a key in the URL
        scheme = text.partition("://")[0]
        hint = f"write {scheme}://host:{PORT}/collection"
        raise InvalidInput(f"{scheme}://… is not a URL: {hint}", value=scheme, hint=hint) from None
    hint = f"write {parts.scheme}://host:{PORT}/collection"
    if parts.username or parts.password:
        raise InvalidInput(
            f"{parts.scheme}://…@{parts.hostname} contains a key; leave it out, and set TUWEN_QDRANT_KEY",
            value=parts.scheme,
            hint=hint,
        )
    try:
        host, port, name = parts.hostname, parts.port or PORT, parts.path.strip("/")
    except ValueError as error:
        raise InvalidInput(f"{text}: {error}", value=text, hint=hint) from error
    if not host or not _NAME.fullmatch(name) or parts.query or parts.fragment:
        raise InvalidInput(f"{text} is not the address of an index: {hint}", value=text, hint=hint)
    return Cluster(host, port, name, _SCHEMES[parts.scheme], key)


def resolve_location(place: "str | Location", settings: "Settings") -> Location:
    """Parse the place of an index, and add key, shards and replicas from the settings if it is in a cluster.

    Raises:
        InvalidInput: see `parse_location`.
    """
    found = parse_location(place)
    if not isinstance(found, Cluster):
        return found
    key = None if settings.qdrant_key is None else settings.qdrant_key.get_secret_value()
    return replace(
        found,
        key=found.key or key,
        shards=found.shards or settings.qdrant_shards,
        replicas=found.replicas or settings.qdrant_replicas,
    )
