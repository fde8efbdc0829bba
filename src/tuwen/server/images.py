"""The files behind rows: only those of the index, only below the collection's root, told by their content.

Knows paths, links and content types. Does not know HTTP.
"""

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from PIL import ImageOps

from tuwen.data.decode import Reading, original_of, read_image
from tuwen.data.files import open_file, path_of
from tuwen.data.formats import HEAD, format_of_content
from tuwen.index.store import Stored
from tuwen.server.errors import Fault, not_found
from tuwen.types import Rejected

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


# ---- Small pictures for a page, made once and kept on disk by content and size.

SIZES = (128, 256, 320, 480, 640, 1024, 1600, 2048)
"""the longer side; a size between is brought to the next one, so that a picture takes bounded room in the cache"""
QUALITY = 80

_HASH = re.compile(r"[0-9a-f]{64}")


class Thumbnails:
    """WebP files below a folder. Safe in several threads and processes."""

    def __init__(self, folder: Path, max_pixels: int) -> None:
        self._folder = folder
        self._max_pixels = max_pixels

    def path(self, content: str, size: int) -> Path:
        """Where the thumbnail of some content is, or will be."""
        if not _HASH.fullmatch(content):
            raise Fault(404, "not_found", "this row has no content that could be shown")
        return self._folder / content[:2] / f"{content}-{rounded(size)}.webp"

    def made(self, file: Path, content: str, size: int) -> Path:
        """The thumbnail of a file, made if it is not there.

        Raises:
            Fault: 422, the file cannot be read as a picture (any more).
        """
        path = self.path(content, size)
        if not path.is_file():
            self._make(file, path, rounded(size))
        return path

    def forget(self, content: str) -> None:
        """Remove all thumbnails of some content."""
        for size in SIZES:
            with suppress(FileNotFoundError, Fault):
                self.path(content, size).unlink()

    def _make(self, file: Path, path: Path, size: int) -> None:
        picture = read_image(file, file.name, Reading(near=(size, size), max_pixels=self._max_pixels))
        if isinstance(picture, Rejected):
            raise Fault(422, "unreadable", f"the picture cannot be shown: it {picture.reason}")
        box = original_of(picture.image).box
        image = picture.image.crop(tuple(round(edge) for edge in box))  # type: ignore[arg-type]
        if max(image.size) > size:
            image = ImageOps.contain(image, (size, size))
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as target:
                image.save(target, format="WEBP", quality=QUALITY)
            Path(aside).replace(path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise


def rounded(size: int) -> int:
    """The next of the sizes that there are."""
    return next((step for step in SIZES if step >= size), SIZES[-1])
