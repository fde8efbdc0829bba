"""Small pictures for a page, made once and kept on disk by content and size.

Knows the cache's folder. Does not know rows; the cache may be deleted at any time.
"""

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from PIL import ImageOps

from tuwen.prepare.images import Reading, read_image, whole_of
from tuwen.server.faults import Fault
from tuwen.types import Rejected

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
        box = whole_of(picture.image).box
        image = picture.image.crop(tuple(round(edge) for edge in box))  # type: ignore[arg-type]
        if max(image.size) > size:
            image = ImageOps.contain(image, (size, size))
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as target:
            image.save(target, format="WEBP", quality=QUALITY)
        Path(aside).replace(path)


def rounded(size: int) -> int:
    """The next of the sizes that there are."""
    return next((step for step in SIZES if step >= size), SIZES[-1])
