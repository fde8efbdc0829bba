"""HEIC and HEIF through pi-heif, but for files that it is known to crash on.

Knows how an item of a HEIF file names its type. Does not know Pillow's registry: nothing is registered there.
Both guards are against pi-heif 1.4.0, found by damaging real files at random, and traced in its source.
"""

import io
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile


def open_heif(stream: IO[bytes]) -> "ImageFile":
    """The header read, the pixels not yet. They will come upright: libheif turns and mirrors them itself.

    Raises:
        ValueError: an item's type is no text, which pi-heif takes for granted.
        NotImplementedError: the picture is grey of more than 8 bits, by its header. pi-heif then widens the pixels
            in place, whatever depth they were really decoded to, beyond the end of their memory. (Colour is brought
            to 8 bits by libheif, which does look.)
    """
    from pi_heif import HeifImageFile

    content = stream.read()
    if not all(map(_is_text, _item_types(content))):
        raise ValueError("an item's type is no text")
    image: ImageFile = HeifImageFile(io.BytesIO(content))
    if image.mode.startswith("I"):
        raise NotImplementedError("grey of more than 8 bits in HEIF")
    return image


def _item_types(content: bytes) -> Iterator[bytes]:
    """The types, and the media types, that the file's item entries (`infe`, ISO 14496-12) give.

    Entries are found by their name, not by walking the boxes around them: in a damaged file those lie.
    """
    place = content.find(b"infe")
    while place >= 0:
        size = int.from_bytes(content[max(0, place - 4) : place], "big")
        entry = content[place + 4 : place - 4 + size]
        version = entry[0] if entry else 0
        if version < 2:  # version, flags, id, protection; then name and media type
            yield from entry[8:].split(b"\0")[1:2]
        else:  # a longer id since version 3; then type, name and media type
            rest = entry[8 if version == 2 else 10 :]
            yield rest[:4]
            yield from rest[4:].split(b"\0")[1:2]
        place = content.find(b"infe", place + 4)


def _is_text(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
