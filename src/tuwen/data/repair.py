"""Removes the metadata of an image file whose metadata keeps it from being read: the pixels may still be sound.

Pillow refuses a PNG with a text or a colour profile that unpacks to over 1 MiB, as tools for generated images and
scanners write them, and files with damaged metadata that says nothing about the pixels.
"""

import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
_KEPT_CHUNKS = (b"tRNS", b"eXIf")
_APP1, _APP14, _COMMENT, _SCAN = 0xE1, 0xEE, 0xFE, 0xDA


def without_metadata(content: bytes) -> bytes | None:
    """A PNG or JPEG without metadata, except its transparency and EXIF; None if there is nothing to remove."""
    if content.startswith(_PNG):
        kept = _png(content)
    elif content.startswith(b"\xff\xd8"):
        kept = _jpeg(content)
    else:
        return None
    return kept if len(kept) < len(content) else None


def _png(content: bytes) -> bytes:
    """The critical chunks, whose names begin with a capital, and `_KEPT_CHUNKS` that are not damaged."""
    parts = [_PNG]
    place = len(_PNG)
    while place + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        chunk = content[place : place + 12 + length]
        sound = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if name[:1].isupper() or (name in _KEPT_CHUNKS and sound):
            parts.append(chunk)
        place += 12 + length
    return b"".join(parts)


def _jpeg(content: bytes) -> bytes:
    """All segments but comments and application segments, of which EXIF and Adobe's colour transform are kept."""
    parts = [content[:2]]
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker, length = struct.unpack_from(">xBH", content, place)
        if marker == _SCAN:
            break
        if not (marker == _COMMENT or 0xE0 <= marker <= 0xEF) or marker in (_APP1, _APP14):
            parts.append(content[place : place + 2 + length])
        place += 2 + length
    return b"".join([*parts, content[place:]])
