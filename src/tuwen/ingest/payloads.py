"""The payload that an index stores beside the vector of an image or a text."""

import hashlib
from collections.abc import Mapping

from tuwen.types import Payload, Source

DATED_BY_FILE = {"taken_from": "file"}
"""marks the payload of an image that does not say when it was taken: `taken` is the time of its file"""
SIDECAR = ("sidecar", "sidecar_modified")
"""the fields that tell whether an image's sidecar has changed"""


def image_payload(source: Source, content: str, facts: Payload, metadata: Payload) -> Payload:
    """What is stored of an image.

    Args:
        source: its file.
        content: the sha256 of the file's content.
        facts: width, height and format.
        metadata: see `data.metadata.read_metadata` and `with_sidecar`.
    """
    return stamped({**key_fields(source.key), "content": content, **facts, **dated(metadata)}, source)


def dated(metadata: Payload) -> Payload:
    """Metadata that says where the date comes from: if not from the image, from its file."""
    return metadata if "taken" in metadata else {**metadata, **DATED_BY_FILE}


def text_payload(key: str, text: str, modified: float) -> Mapping[str, str | int | float]:
    """What is stored of a text. `modified`: when its file last changed, in seconds since 1970."""
    content = content_of(text)
    return {**key_fields(key), "type": "text", "text": text, "content": content, "modified": modified}


def content_of(text: str) -> str:
    """The sha256 of a text, in hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def key_fields(key: str) -> dict[str, str]:
    """A row's key, and its parts to filter by."""
    folder, _, name = key.rpartition("/")
    return {"path": key, "folder": folder, "name": name}


def stamped(payload: Payload, source: Source) -> Payload:
    """A payload with the size and times of its files, which tell whether they have changed without opening them."""
    date = {"taken": source.modified} if payload.get("taken_from") == DATED_BY_FILE["taken_from"] else {}
    kept = {name: value for name, value in payload.items() if name not in SIDECAR}
    return {**kept, **date, "bytes": source.size, "modified": source.modified, **sidecar_fields(source)}


def sidecar_fields(source: Source) -> dict[str, str | float]:
    """The name and time of an image's sidecar; empty if it has none."""
    sidecar = source.sidecar
    return {} if sidecar is None else {"sidecar": sidecar.path.name, "sidecar_modified": sidecar.modified}
