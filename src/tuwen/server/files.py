"""The files behind rows: only those of the index, only below the collection's root, told by their content.

Knows paths, links and content types. Does not know HTTP.
"""

import os
from pathlib import Path

from tuwen.index.store import Stored
from tuwen.prepare.formats import HEAD, format_of_content
from tuwen.prepare.sources import open_file, path_of
from tuwen.server.faults import not_found

_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
    "ICO": "image/x-icon",
    "TIFF": "image/tiff",
    "HEIF": "image/heic",
    "JPEG2000": "image/jp2",
}
"""what a browser may show; anything else, SVG and HTML first of all, is only handed over as a download"""
UNKNOWN = "application/octet-stream"


def file_of(row: Stored, root: Path) -> Path:
    """The file of a row, free of links.

    Raises:
        Fault: 404: the file has gone, is no file, or lies outside of the collection, be it by a link.
    """
    gone = not_found(f"the picture {row.id} has no file in the collection (any more)")
    if row.payload.get("type", "image") != "image":
        raise not_found(f"{row.id} is no picture")
    try:
        path = Path(os.path.realpath(path_of(str(row.payload["path"]), root), strict=True))
        base = Path(os.path.realpath(root, strict=True))
    except (OSError, ValueError):
        raise gone from None
    if not path.is_relative_to(base) or not path.is_file():
        raise gone
    return path


def content_type(path: Path) -> str:
    """What a file is by its first bytes, whatever it is called.

    Raises:
        Fault: 404, it cannot be read.
    """
    try:
        with open_file(path) as file:
            found = format_of_content(file.read(HEAD))
    except OSError:
        raise not_found("the picture's file cannot be read") from None
    return UNKNOWN if found is None else _TYPES.get(found.name, UNKNOWN)
