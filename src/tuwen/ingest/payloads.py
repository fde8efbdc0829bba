"""The payload that an index stores beside the vector of an image or a text."""

import hashlib
from collections.abc import Mapping

from tuwen.types import Payload, Source


def image_payload(source: Source, content: str, facts: Payload) -> Payload:
    """What is stored of an image.

    Args:
        source: its file.
        content: the sha256 of the file's content.
        facts: width, height and format.
    """
    return {**key_fields(source.key), "content": content, **facts, **stamp(source)}


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


def stamp(source: Source) -> dict[str, int | float]:
    """What tells whether a file has changed, without opening it."""
    return {"bytes": source.size, "modified": source.modified}
